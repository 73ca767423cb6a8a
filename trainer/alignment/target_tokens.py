"""Which target every token of a sample belongs to, on the teacher's side and on the student's. NumPy only.

A target is a range of characters; a token belongs to the one that it ends in. Some targets end in none: the end of
sequence, a special token, what a student's own chat template writes. These go with the targets beside them.

Shapes: T teacher tokens, X tokens of either side, R ranges.
"""

import numpy as np

from schemas.cache.samples import CachedSample
from schemas.cache.targets import ends_inside, range_of
from schemas.cache.token_rows import runs
from trainer.alignment.student_text import StudentText, ends_with_special


def teacher_target(sample: CachedSample) -> np.ndarray:
    """[T] bool: the token belongs to a target, or is the end of sequence, and something precedes it."""
    target_T = ends_inside(sample.token_offsets[:, 1], sample.targets)
    target_T[-1:] |= ends_with_special(sample)
    target_T[:1] = False
    return target_T


def label_targets(sample: CachedSample, text: StudentText) -> tuple[np.ndarray, np.ndarray]:
    """The range of each of the teacher's tokens [T] and of the student's [S], int64; -1 for no target."""
    return (
        target_labels(sample.token_offsets[:, 1], teacher_target(sample), sample.targets),
        target_labels(text.offsets[:, 1], text.target, sample.targets),
    )


def target_labels(ends_X: np.ndarray, target_X: np.ndarray, targets_R2: np.ndarray) -> np.ndarray:
    """[X] int64: the range of every token in `target_X`, -1 for the others.

    It is the range that the token ends in. One that ends in none belongs to the range of the next target in its run of
    targets in a row that ends in one; if there is no next, to that of the last before it in the run. A run without
    any belongs to the range after that of the run before it, and to the last range if there is none after: so an end of
    sequence apart from all others closes the last range. Where a sample has no ranges, its targets are range 0.
    """
    label_X = np.where(target_X, range_of(ends_X, targets_R2), -1)
    for start, end in runs(target_X).tolist():
        located = start + np.flatnonzero(label_X[start:end] >= 0)
        if not len(located):
            label_X[start:end] = min(label_X[:start].max(initial=-1) + 1, max(len(targets_R2) - 1, 0))
        elif len(located) < end - start:
            after = np.searchsorted(located, np.arange(start, end)).clip(max=len(located) - 1)
            label_X[start:end] = label_X[located[after]]
    return label_X

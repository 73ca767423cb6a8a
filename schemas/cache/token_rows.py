"""Which tokens of a text have rows of hidden states and of next-token distributions: all, or those that targets need.

A target is predicted from the state of the token before it, and pooled with its own. The last token predicts the end
of the sequence. All others can be left out: on instructions about half.

Shapes: T tokens, N rows, R ranges [start, end) of token positions.
"""

from typing import Literal

import numpy as np

from schemas.cache.targets import ends_inside

KeptRows = Literal["all", "targets"]
NO_ROWS = np.empty((0, 2), np.int32)


def every_row(tokens: int) -> np.ndarray:
    """[R, 2] int32: one range of all tokens, or none if there are no tokens."""
    return np.array([[0, tokens]], np.int32) if tokens else NO_ROWS


def target_rows(offsets_T2: np.ndarray, targets_R2: np.ndarray) -> np.ndarray:
    """[R, 2] int32: the runs of tokens that belong to a target, or stand before one that does, or are the last."""
    if not len(offsets_T2):
        return NO_ROWS
    kept_T = ends_inside(offsets_T2[:, 1], targets_R2)
    kept_T[:-1] |= kept_T[1:].copy()
    kept_T[-1] = True
    return runs(kept_T)


def runs(marked_T: np.ndarray) -> np.ndarray:
    """[R, 2] int32: the runs of marked tokens in a row."""
    padded = np.zeros(len(marked_T) + 2, bool)  # by hand: NumPy's own padding takes three times as long as the rest
    padded[1:-1] = marked_T
    turns = np.flatnonzero(padded[1:] != padded[:-1])
    return turns.reshape(-1, 2).astype(np.int32)


def count_rows(ranges_R2: np.ndarray) -> int:
    """N, the tokens in all ranges."""
    return int((ranges_R2[:, 1] - ranges_R2[:, 0]).sum())


def row_positions(ranges_R2: np.ndarray) -> np.ndarray:
    """[N] int64: the position of each row's token, ascending."""
    return np.concatenate([np.arange(start, end) for start, end in ranges_R2.tolist()] or [np.empty(0, np.int64)])

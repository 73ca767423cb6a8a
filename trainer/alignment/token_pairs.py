"""Which of the teacher's tokens each of the student's is, for one tokenizer on both sides, and how many are none."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from schemas.cache.samples import CachedSample
from schemas.errors import PairingError
from schemas.shown import percent
from trainer.alignment.spans import pair_contents, pair_tokens
from trainer.alignment.student_text import StudentText


@dataclass(frozen=True)
class PairCoverage:
    """Targets of some samples, and how many the teacher predicts from the same context."""

    targets: int  # of the student's tokens
    paired: int
    same_text: int  # samples that both sides read alike, to the character

    @property
    def share(self) -> float:
        """Of the targets; 1 if there are none."""
        return self.paired / self.targets if self.targets else 1.0

    def __str__(self) -> str:
        """One line, e.g. `96.3% of the target tokens are paired with the teacher's; ...`."""
        return (
            f"{percent(self.share)} of the target tokens are paired with the teacher's; {self.targets - self.paired:,} "
            "of them follow words of a chat template, or contents that one of the two templates does not show"
        )


def token_positions(sample: CachedSample, text: StudentText) -> np.ndarray:
    """[S] int64: the teacher's token that each of the student's is, or -1. Of a conversation in two templates only
    tokens of contents are; see `pair_contents`.

    Raises PairingError, naming the sample, where the two sides' ids differ.
    """
    if text.same is not None:
        return pair_contents(sample.token_ids, sample.token_offsets, text.ids, text.offsets, text.same)
    try:
        return pair_tokens(sample.token_ids, text.ids)
    except PairingError as error:
        raise PairingError(f"sample {sample.id!r}: {error}") from error


def measure_pairs(drawn: Iterable[tuple[CachedSample, StudentText]]) -> PairCoverage:
    """A target is paired if the token before it is: from there both sides predict it. Raises PairingError."""
    targets = paired = same_text = 0
    for sample, text in drawn:
        predicts = text.target[1:]
        targets += int(predicts.sum())
        paired += int((predicts & (token_positions(sample, text)[:-1] >= 0)).sum())
        same_text += not text.own_template
    return PairCoverage(targets, paired, same_text)

"""The teacher's logits over rows of a batch: made a chunk at a time, and where several students learn from the batch,
by the first of them for all.

Shapes: R rows (predictions or spans), d wide, V teacher vocabulary; n rows of one chunk.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from schemas.models.teacher_head import TeacherHead

RowLogits = Callable[[slice], Tensor]  # [n, V] of a slice of the rows, which the caller may overwrite


class TeacherLogits:
    """The logits of one batch. What is held goes with it."""

    def __init__(self, most_bytes: int = 0):
        """Up to `most_bytes` are held for whoever asks for the same; what is beyond is made each time."""
        self.left = most_bytes
        self._held: list[_Rows] = []

    def __call__(self, head: TeacherHead, hidden_Rd: Tensor, temperature: float = 1.0) -> RowLogits:
        """z / temperature of final states. That rows are the same is seen by their numbers, so a student that pools
        its teacher in another way gets its own."""

        def made(chunk: slice) -> Tensor:
            logits_nV: Tensor = head(hidden_Rd[chunk], temperature=temperature)
            return logits_nV

        if self.left <= 0 and not self._held:
            return made
        rows = self._find(head, hidden_Rd, temperature)

        def held(chunk: slice) -> Tensor:
            """The first student's, or the next chunk that there is room for."""
            place = chunk.start, chunk.stop
            if (found := rows.logits.get(place)) is not None:
                return _copied(found)
            logits_nV = made(chunk)
            if (size := logits_nV.numel() * logits_nV.element_size()) <= self.left:
                self.left -= size
                rows.logits[place] = _copied(logits_nV)
            return logits_nV

        return held

    def _find(self, head: TeacherHead, hidden_Rd: Tensor, temperature: float) -> "_Rows":
        for rows in self._held:
            if rows.head is head and rows.temperature == temperature and torch.equal(rows.hidden_Rd, hidden_Rd):
                return rows
        self._held.append(_Rows(head, hidden_Rd, temperature))
        return self._held[-1]


def _copied(logits_nV: Tensor) -> Tensor:
    """With gaps between the rows where these have some, as those of a padded head: what passes over numbers that lie
    otherwise rounds otherwise, and shared logits must give the student that one's own give."""
    return logits_nV.new_empty_strided(logits_nV.shape, logits_nV.stride()).copy_(logits_nV)


@dataclass(frozen=True)
class _Rows:
    """Rows that some loss of some student asked for."""

    head: TeacherHead
    hidden_Rd: Tensor
    temperature: float
    logits: dict[tuple[int, int], Tensor] = field(default_factory=dict)  # by the chunk's ends

"""The teacher's next-token logits, a few rows at a time, and what is made of them.

Whatever the batch, logits and what is made of them stay within LOGITS_BYTES. Takes V * d * 4 bytes more for a teacher
that computes in less than float32.

Shapes: N tokens, R of them at a time, V vocabulary, d hidden size.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from pipeline.corpus.sample import AnnotatedSample
from pipeline.teacher.maker import LogitsMaker
from schemas.cache.arrays import ArrayRecord
from schemas.cache.teacher import HeadRecord
from schemas.models.logits import LogitTransform

LOGITS_BYTES = 256 * 2**20
# float32: logits, log p, log q, and one on its way; float64: q, its running sum, and that over its end.
BYTES_PER_LOGIT = 40


class LogitStates:
    """The arrays of every kind that is made from logits."""

    def __init__(self, weight_Vd: Tensor, bias_V: Tensor | None, head: HeadRecord, makers: Sequence[LogitsMaker]):
        self._weight_Vd = weight_Vd.float()  # once, not at every few rows
        self._bias_V, self._makers = bias_V, makers
        self._transform = LogitTransform(head.scale, head.softcap)
        self._rows = max(1, LOGITS_BYTES // (BYTES_PER_LOGIT * len(weight_Vd)))

    def make(self, hidden_Nd: Tensor, samples: Sequence[AnnotatedSample]) -> Iterator[tuple[ArrayRecord, Tensor]]:
        """Every array, [N] or [N, width], for the final states of the tokens of `samples`, concatenated."""
        cuts = [maker.begin(samples, hidden_Nd.device) for maker in self._makers]
        arrays = [array for maker in self._makers for array in maker.makes]
        parts: list[list[Tensor]] = [[] for _ in arrays]
        for start in range(0, len(hidden_Nd), self._rows):
            rows = slice(start, start + self._rows)
            logits_RV = self._transform.of_states(hidden_Nd[rows], self._weight_Vd, self._bias_V)
            found = [values_Rx for cut in cuts for values_Rx in cut(logits_RV, rows)]
            for part, values_Rx in zip(parts, found, strict=True):
                part.append(values_Rx)
        for array, part in zip(arrays, parts, strict=True):
            yield array, torch.cat(part)

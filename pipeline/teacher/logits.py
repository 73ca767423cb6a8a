"""The teacher's next-token logits, a few rows at a time, and what is made of them.

Whatever the batch, logits and what is made of them stay within LOGITS_BYTES. Takes V * d * 4 bytes more for a teacher
that computes in less than float32.

Shapes: N tokens, K of them that are kept, R of them at a time, V vocabulary, d hidden size.
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
# On a CPU, what is made of logits is made of a few rows at a time, which stay in its cache: a pass over memory that is
# new to the process costs several times what it computes.
CPU_LOGITS = 2**20
# float32: logits, log p, log q, and one on its way; float64: q, its running sum, and that over its end.
BYTES_PER_LOGIT = 40


class LogitStates:
    """The arrays of every kind that is made from logits."""

    def __init__(self, weight_Vd: Tensor, bias_V: Tensor | None, head: HeadRecord, makers: Sequence[LogitsMaker]):
        self._weight_Vd = weight_Vd.float()  # once, not at every few rows
        self._bias_V, self._makers = bias_V, makers
        self._transform = LogitTransform(head.scale, head.softcap)
        self._rows = max(1, LOGITS_BYTES // (BYTES_PER_LOGIT * len(weight_Vd)))

    def make(
        self, hidden_Nd: Tensor, samples: Sequence[AnnotatedSample], kept_K: Tensor | None = None
    ) -> Iterator[tuple[ArrayRecord, Tensor]]:
        """Every array, [N] or [N, width], for the final states of the tokens of `samples`, concatenated.

        With `kept_K`, those of them in `token_rows` where these are not all, arrays that follow the subset are [K] or
        [K, width], and no other logits are computed for them.
        """
        follow = [maker for maker in self._makers if kept_K is not None and maker.arrays[0].follows_subset]
        others = [maker for maker in self._makers if maker not in follow]
        for makers, kept in ((follow, kept_K), (others, None)):
            if makers:
                yield from self._make(makers, hidden_Nd, samples, kept)

    def _make(
        self,
        makers: Sequence[LogitsMaker],
        hidden_Nd: Tensor,
        samples: Sequence[AnnotatedSample],
        kept_K: Tensor | None,
    ) -> Iterator[tuple[ArrayRecord, Tensor]]:
        cuts = [maker.begin(samples, hidden_Nd.device) for maker in makers]
        arrays = [array for maker in makers for array in maker.makes]
        parts: list[list[Tensor]] = [[] for _ in arrays]
        for chunk, logits_RV in self.logits(hidden_Nd, kept_K):
            for rows, some_RV in _blocks(logits_RV, chunk.start):
                found = [values_Rx for cut in cuts for values_Rx in cut(some_RV, rows)]
                for part, values_Rx in zip(parts, found, strict=True):
                    part.append(values_Rx)
        for array, part in zip(arrays, parts, strict=True):
            yield array, torch.cat(part)

    def logits(self, hidden_Nd: Tensor, kept_K: Tensor | None = None) -> Iterator[tuple[slice, Tensor]]:
        """Which of the N rows, or of the K that are kept, and their logits, [R, V] float32."""
        for start in range(0, len(hidden_Nd) if kept_K is None else len(kept_K), self._rows):
            chunk = slice(start, start + self._rows)
            hidden_Rd = hidden_Nd[chunk if kept_K is None else kept_K[chunk]]
            yield chunk, self._transform.of_states(hidden_Rd, self._weight_Vd, self._bias_V)


def _blocks(logits_RV: Tensor, start: int) -> Iterator[tuple[slice, Tensor]]:
    """Which rows, the first being `start`, and their logits: all at once, or on a CPU some."""
    rows, vocabulary = logits_RV.shape
    most = max(1, CPU_LOGITS // vocabulary) if logits_RV.device.type == "cpu" else rows
    for first in range(0, rows, most):
        some_RV = logits_RV[first : first + most]
        yield slice(start + first, start + first + len(some_RV)), some_RV

"""The likeliest next tokens at every token. Shapes: R tokens, V vocabulary, k entries per token."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pipeline.corpus.sample import AnnotatedSample
from pipeline.teacher.maker import Cut
from pipeline.teacher.packing import PackedMaker
from schemas.cache.kinds.next_token import NO_TAIL


class TopKMaker(PackedMaker):
    """Ids and log-probabilities of softmax(z / temperature)."""

    name = "top_k"

    def begin(self, samples: Sequence[AnnotatedSample], device: torch.device) -> Cut:
        """A cut into ids [R, k] and log-probabilities [R, k + 1]. It needs nothing of the samples."""
        temperature, entries = self.record.temperature, self.record.entries
        return lambda logits_RV, rows: top_k((logits_RV / temperature).log_softmax(-1), entries)


def top_k(logp_RV: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k likeliest tokens, likeliest first, [R, k]; their log-probabilities and that of all others, [R, k + 1].

    The tail is summed up where it is: 1 - sum p in float32 knows nothing of a tail below 1e-7. Without others, NO_TAIL.
    """
    values_Rk, ids_Rk = logp_RV.topk(k)
    tail_R1 = logp_RV.scatter(1, ids_Rk, -torch.inf).logsumexp(1, keepdim=True)
    return ids_Rk, torch.cat([values_Rk, tail_R1.clamp_min(NO_TAIL)], dim=1)


MAKER = TopKMaker

"""The likeliest next tokens at every token. Shapes: R tokens, V vocabulary, k entries per token."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pipeline.corpus.sample import AnnotatedSample
from pipeline.teacher.maker import Cut, tempered
from pipeline.teacher.packing import PackedMaker
from schemas.cache.kinds.next_token import NO_TAIL

BLOCK = 64  # of 32 to 512, the fastest at a vocabulary of 152,000


class TopKMaker(PackedMaker):
    """Ids and log-probabilities of softmax(z / temperature)."""

    name = "top_k"

    def begin(self, samples: Sequence[AnnotatedSample], device: torch.device) -> Cut:
        """A cut into ids [R, k] and log-probabilities [R, k + 1]. It needs nothing of the samples."""
        temperature, entries = self.record.temperature, self.record.entries
        return lambda logits_RV, rows: top_k(tempered(logits_RV, temperature).log_softmax(-1), entries)


def top_k(logp_RV: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k likeliest tokens, likeliest first, [R, k]; their log-probabilities and that of all others, [R, k + 1].

    The tail is summed up where it is: 1 - sum p in float32 knows nothing of a tail below 1e-7. Without others, NO_TAIL.
    """
    values_Rk, ids_Rk = _largest(logp_RV, k)
    tail_R1 = logp_RV.scatter(1, ids_Rk, -torch.inf).logsumexp(1, keepdim=True)
    return ids_Rk, torch.cat([values_Rk, tail_R1.clamp_min(NO_TAIL)], dim=1)


def _largest(x_RV: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """`x_RV.topk(k)`, looked for in the k blocks of the largest maxima alone: a third of the time of looking at all.

    The k largest numbers lie in these: any other block would have a maximum below that of k others.
    """
    blocks = x_RV.shape[1] // BLOCK
    if blocks <= 4 * k:
        return x_RV.topk(k)
    x_RBW, rest = x_RV[:, : blocks * BLOCK].view(len(x_RV), blocks, BLOCK), blocks * BLOCK
    best_Rk = x_RBW.amax(-1).topk(k, sorted=False).indices
    found = x_RBW.gather(1, best_Rk[..., None].expand(-1, -1, BLOCK)).flatten(1)
    first_Rk = best_Rk * BLOCK
    ids = torch.cat([(first_Rk[..., None] + torch.arange(BLOCK, device=x_RV.device)).flatten(1), _ids(x_RV, rest)], 1)
    values_Rk, places_Rk = torch.cat([found, x_RV[:, rest:]], 1).topk(k)
    return values_Rk, ids.gather(1, places_Rk)


def _ids(x_RV: Tensor, first: int) -> Tensor:
    return torch.arange(first, x_RV.shape[1], device=x_RV.device).expand(len(x_RV), -1)


MAKER = TopKMaker

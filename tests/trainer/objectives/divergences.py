"""The divergences of KD with settings that are not their defaults, and sparse teachers for them."""

import torch
from torch import Tensor

from schemas.cache.kinds.next_token import NO_TAIL

DIVERGENCES = {
    "forward_kl": {},
    "reverse_kl": {},
    "js": {"beta": 0.3},
    "total_variation": {},
    "skew_forward_kl": {"skew": 0.2},
    "skew_reverse_kl": {"skew": 0.2},
    "adaptive_kl": {"head": 0.4},
}


def with_tail(p: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The logarithms of the k largest and of the sum of all others, and which they are."""
    values, ids = p.sort(dim=-1, descending=True)
    tail = values[..., k:].sum(-1, keepdim=True)
    return torch.cat([values[..., :k], tail], -1).log().clamp_min(NO_TAIL), ids[..., :k]

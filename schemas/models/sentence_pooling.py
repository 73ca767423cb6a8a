"""Sentence embeddings: the hidden states of a text's tokens made one vector, as sentence-transformers makes it.

Special tokens such as [CLS] and [SEP] count as tokens; padding does not. Shapes: B samples, T tokens, d width.
"""

import torch
from torch import Tensor, nn

from schemas.cache.kinds.pooled import Pooling


def pool(states_BTd: Tensor, mask_BT: Tensor, pooling: Pooling) -> Tensor:
    """[B, d] in float32 (float64 stays), of samples that have at least one token and are padded on the right.

    mean: sum_t h_t / T. cls: h_1. last: h_T (sentence-transformers, models.Pooling).
    """
    states_BTd = states_BTd.to(torch.promote_types(states_BTd.dtype, torch.float32))
    if pooling == "cls":
        return states_BTd[:, 0]
    length_B = mask_BT.sum(1)
    if pooling == "last":
        return states_BTd[torch.arange(len(length_B), device=length_B.device), length_B - 1]
    return states_BTd.masked_fill(~mask_BT[:, :, None], 0.0).sum(1) / length_B[:, None]


def embed(states_BTd: Tensor, mask_BT: Tensor, pooling: Pooling, normalise: bool) -> Tensor:
    """`pool`, and then e / |e| if `normalise` (sentence-transformers, models.Normalize)."""
    pooled_Bd = pool(states_BTd, mask_BT, pooling)
    return nn.functional.normalize(pooled_Bd, dim=1) if normalise else pooled_Bd

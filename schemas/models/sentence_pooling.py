"""Sentence embeddings: the hidden states of a text's tokens made one vector, as sentence-transformers makes it.

Special tokens such as [CLS] and [SEP] are tokens like any other; padding is none. Shapes: B samples, T tokens, d width.
"""

import torch
from torch import Tensor, nn

from schemas.cache.manifest import PooledRecord


def pool(states_BTd: Tensor, mask_BT: Tensor, record: PooledRecord) -> Tensor:
    """[B, d] in float32, of samples that have a token at least and are padded on the right.

    mean: sum_t h_t / T. cls: h_1. last: h_T. Then, if `normalise`, e / |e| (sentence-transformers, models.Pooling and
    models.Normalize).
    """
    states_BTd = states_BTd.float()
    if record.pooling == "mean":
        real_BT1 = mask_BT[:, :, None]
        pooled_Bd = states_BTd.where(real_BT1, 0.0).sum(1) / real_BT1.sum(1)
    elif record.pooling == "cls":
        pooled_Bd = states_BTd[:, 0]
    else:
        samples_B = torch.arange(len(mask_BT), device=mask_BT.device)
        pooled_Bd = states_BTd[samples_B, mask_BT.sum(1) - 1]
    return nn.functional.normalize(pooled_Bd, dim=1) if record.normalise else pooled_Bd

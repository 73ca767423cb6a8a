"""Random draws against the distribution that they were drawn from, by the numbers that drew them.

Two runs that differ by rounding may draw other tokens: where a running sum of probabilities moves past a uniform
number, the token beside takes the place. So tokens are not compared: each uniform number must lie where its token does
in the running sum of the fresh distribution, and what it lies outside of that is measured. A draw keeps no word of its
number, but a larger number never gives a smaller id: both in order, they are the same draws.

Shapes: R rows, U distinct ids of one, n draws, V vocabulary.
"""

import torch
from torch import Tensor

from pipeline.teacher.kinds.sampled import propose
from schemas.cache.kinds.next_token import SparseRecord

ROUNDED = 2.0**-10  # of a weight: shares of the largest are kept in float16
NOT_DRAWS = 1.0  # the distance of a row whose weights are not those of so many draws


def outside(ids_RU: Tensor, weights_RU: Tensor, logits_RV: Tensor, uniform_Rn: Tensor, record: SparseRecord) -> Tensor:
    """[R] float64: by how much of all the probability a draw lies outside of its token's, on average, and what the
    weights of a row differ by.

    `weights_RU` are those of all draws of an id together, 0 beyond a row's own.
    """
    assert record.proposal is not None
    logp_RV = (logits_RV / record.temperature).log_softmax(-1)
    logq_RV, sums_RV = propose(logp_RV, record.proposal)
    one_RU = (logp_RV.gather(1, ids_RU) - logq_RV.gather(1, ids_RU)).double().exp() / record.entries
    counts_RU = (weights_RU.double() / one_RU).round().clamp(0, record.entries).long()
    apart_RU = (weights_RU.double() - counts_RU * one_RU).abs() - ROUNDED * weights_RU
    apart_R = apart_RU.clamp_min(0).sum(1)
    complete_R = counts_RU.sum(1) == record.entries
    found_R = torch.full_like(apart_R, NOT_DRAWS)
    if complete_R.any():
        some_Rn = ids_RU[complete_R].flatten().repeat_interleave(counts_RU[complete_R].flatten())
        ids_Rn = some_Rn.view(-1, record.entries).sort(1).values
        beyond_R = _beyond(ids_Rn, sums_RV[complete_R], uniform_Rn[complete_R].sort(1).values)
        found_R[complete_R] = beyond_R + apart_R[complete_R]
    return found_R


def _beyond(ids_Rn: Tensor, sums_RV: Tensor, uniform_Rn: Tensor) -> Tensor:
    upper_Rn = sums_RV.gather(1, ids_Rn)
    lower_Rn = torch.where(ids_Rn > 0, sums_RV.gather(1, (ids_Rn - 1).clamp_min(0)), 0.0)
    return torch.maximum(lower_Rn - uniform_Rn, uniform_Rn - upper_Rn).clamp_min(0).mean(1)

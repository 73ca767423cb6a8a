"""What encoding cost: some rows of a unit are decoded, and compared with the true ones.

Shapes: N rows of an array, R of them, d hidden size.
"""

import torch
from torch import Tensor

from pipeline.encoding.head import Head
from pipeline.encoding.measure import centred_cosine, compared_rows, geometry_error, kl_divergence
from schemas.cache.encoding_cost import EncodingCost, describe_divergences, rounded
from schemas.models.state_decoder import StateDecoder

LEAST_PREDICTED = 128  # rows whose predictions are compared,
PREDICTED = 512  # or one of so many: with a large vocabulary, a hundred as dear as the whole forward pass


def measure_cost(
    true_Nd: Tensor, data: Tensor, size_N: Tensor, decoder: StateDecoder, head: Head | None
) -> EncodingCost:
    """Of rows in bfloat16 that lie in `data` [bytes], `size_N` bytes each. Without a `head`, predictions are left out.

    Which rows are decoded follows from their number alone.
    """
    raw = 0 if decoder.raw_size is None else int((size_N == decoder.raw_size).sum())
    cost = EncodingCost(rows=len(true_Nd), raw=raw, bits=rounded(8 * len(data) / max(1, true_Nd.numel())), measured=0)
    if not len(true_Nd):
        return cost
    near = compared_rows(len(true_Nd)).to(data.device)
    near_Rd, decoded_Rd = true_Nd[near.to(true_Nd.device)].to(data.device).float(), _decode(data, size_N, near, decoder)
    mean_d = near_Rd.mean(0)
    geometry = geometry_error(near_Rd, decoded_Rd, mean_d)
    found: dict[str, float | None] = {
        "measured": len(near),
        "cosine": rounded(float(centred_cosine(near_Rd, decoded_Rd, mean_d).mean())),
        "geometry": None if geometry is None else rounded(geometry),
    }
    if head is not None:
        found |= _predictions(true_Nd, data, size_N, decoder, head)
    return cost.model_copy(update=found)


def _predictions(true_Nd: Tensor, data: Tensor, size_N: Tensor, decoder: StateDecoder, head: Head) -> dict[str, float]:
    step = max(1, len(true_Nd) // max(LEAST_PREDICTED, len(true_Nd) // PREDICTED))
    apart = torch.arange(0, len(true_Nd), step, device=data.device)
    true_Rd = true_Nd[apart.to(true_Nd.device)].to(data.device).float()
    kl_R = kl_divergence(true_Rd, _decode(data, size_N, apart, decoder), head).double()
    return describe_divergences(kl_R.cpu().numpy())


def _decode(data: Tensor, size_N: Tensor, row_R: Tensor, decoder: StateDecoder) -> Tensor:
    """[R, d] float32, of some rows."""
    size_N = size_N.long()
    size_R, start_R = size_N[row_R], (size_N.cumsum(0) - size_N)[row_R]
    before_R = size_R.cumsum(0) - size_R
    place = torch.arange(int(size_R.sum()), device=data.device) + torch.repeat_interleave(start_R - before_R, size_R)
    return decoder.states(data[place], size_R)

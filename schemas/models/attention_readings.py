"""What is read of a layer's attention: token masses, or the weights themselves. In float32, without a gradient.

last      softmax(q_last K^T) summed over heads, where last is the last real token, brought to a sum of 1: [B, T]
received  what each token receives, averaged over heads and real tokens: [B, T], 1 in sum over a sample
mean      the weights of every pair of real tokens, averaged over heads: [P]
heads     the same of each head: [P, H]

Pairs stand as `schemas.cache.row_units` has them, sample after sample, whichever side the padding is on. The rows of a
layer are computed some queries at a time, so that beside what is read, memory is bounded.

Shapes: B samples, T tokens, H heads, R query rows, P pairs of all samples, p of some rows.
"""

from collections.abc import Collection, Iterator
from typing import Literal

import torch
from torch import Tensor

from schemas.cache.row_units import count_pairs
from schemas.models.attention_rows import Scores, Weights

Reading = Literal["last", "received", "mean", "heads"]

# Weights held at a time. On a CPU, 4 MB stay in its cache and are 1.4 times as fast as 64 MB.
_CPU_BLOCK, _GPU_BLOCK = 2**20, 2**25


def read_attention(
    source: Weights | Scores, mask_BT: Tensor, readings: Collection[Reading], causal: bool
) -> dict[Reading, Tensor]:
    """Those `readings` of one layer. `mask_BT` is true on real tokens; pairs of a `causal` text look back."""
    found: dict[Reading, Tensor] = {}
    if "last" in readings:
        positions_T = torch.arange(mask_BT.shape[1], device=mask_BT.device)
        last_B1 = (mask_BT * positions_T).amax(1, keepdim=True)
        found["last"] = _as_mass(source.rows(last_B1, mask_BT).sum((1, 2)), mask_BT)
    if set(readings) - {"last"}:
        found |= _read_every_row(source, mask_BT, readings, causal)
    return found


def _read_every_row(
    source: Weights | Scores, mask_BT: Tensor, readings: Collection[Reading], causal: bool
) -> dict[Reading, Tensor]:
    pairs = _Pairs(mask_BT, causal)
    received_BT = torch.zeros(mask_BT.shape, device=mask_BT.device)
    shapes: dict[Reading, tuple[int, ...]] = {"mean": (pairs.count,), "heads": (pairs.count, source.shape_HTT[0])}
    maps = {name: torch.empty(shape, device=mask_BT.device) for name, shape in shapes.items() if name in readings}
    for rows_R, weights_BHRT in _blocks(source, mask_BT):
        if "received" in readings:
            # As a product, because it reads the weights once; rows of padding count 0.
            received_BT += torch.einsum("bhrt,br->bt", weights_BHRT, mask_BT[:, rows_R].float())
        if maps:
            chosen_BRT, place_p = pairs.of(rows_R)
            if "mean" in maps:
                maps["mean"][place_p] = weights_BHRT.mean(1)[chosen_BRT]
            if "heads" in maps:
                maps["heads"][place_p] = weights_BHRT.permute(0, 2, 3, 1)[chosen_BRT]
    return maps | ({"received": _as_mass(received_BT, mask_BT)} if "received" in readings else {})


def _as_mass(received_BT: Tensor, mask_BT: Tensor) -> Tensor:
    mass_BT = received_BT.masked_fill(~mask_BT, 0.0)
    return mass_BT / mass_BT.sum(1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)


def _blocks(source: Weights | Scores, mask_BT: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """The rows of the batch, some at a time, and their weights [B, H, R, T]."""
    B, T = mask_BT.shape
    elements = _CPU_BLOCK if mask_BT.device.type == "cpu" else _GPU_BLOCK
    block = max(1, elements // (B * T * source.shape_HTT[0]))
    for start in range(0, T, block):
        rows_R = torch.arange(start, min(start + block, T), device=mask_BT.device)
        yield rows_R, source.rows(rows_R.expand(B, -1), mask_BT)


class _Pairs:
    """Where the pairs of real tokens of a batch stand, one sample after the other."""

    def __init__(self, mask_BT: Tensor, causal: bool):
        self._mask_BT, self._causal = mask_BT, causal
        self._rank_BT = mask_BT.cumsum(1) - 1
        self._length_B = mask_BT.sum(1)
        pairs_B = count_pairs(self._length_B, causal)
        self._first_B = pairs_B.cumsum(0) - pairs_B
        self.count = int(pairs_B.sum())

    def of(self, rows_R: Tensor) -> tuple[Tensor, Tensor]:
        """[B, R, T] bool: the pairs of those rows; and [p] long: the place of each, in that order."""
        query_BR1, key_B1T = self._rank_BT[:, rows_R, None], self._rank_BT[:, None]
        chosen_BRT = self._mask_BT[:, rows_R, None] & self._mask_BT[:, None]
        if self._causal:
            chosen_BRT = chosen_BRT & (key_B1T <= query_BR1)
            begin_BR1 = query_BR1 * (query_BR1 + 1) // 2
        else:
            begin_BR1 = query_BR1 * self._length_B[:, None, None]
        return chosen_BRT, (self._first_B[:, None, None] + begin_BR1 + key_B1T)[chosen_BRT]

"""Where each token of a padded batch lies among the batch's own tokens, one sample after the other, without padding.

Shapes: B samples, S tokens of the longest, N tokens of all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainer.data.on_device import OnDevice


@dataclass(frozen=True)
class Packing(OnDevice):
    """The way from B rows of S places to N tokens, and back."""

    place_N: Tensor  # long: b * S + s of each token
    position_N: Tensor  # long: s
    token_BS: Tensor  # long: which of the N tokens stands there; on padding, the last of its sample

    @classmethod
    def of(cls, lengths: Sequence[int], width: int) -> "Packing":
        """That of samples of these lengths in rows of `width` places."""
        length_B1 = np.array(lengths, np.int64)[:, None]
        places_S = np.arange(width)
        place_N = np.flatnonzero(places_S < length_B1)
        first_B1 = length_B1.cumsum(0) - length_B1
        token_BS = (first_B1 + np.minimum(places_S, length_B1 - 1)).clip(min=0)
        return cls(*map(torch.from_numpy, (place_N, place_N % width, token_BS)))

    def pack(self, rows_BSx: Tensor) -> Tensor:
        """[1, N, x] of [B, S, x]: the tokens alone."""
        packed: Tensor = _Gather.apply(rows_BSx.flatten(0, 1), 0, self.place_N, None)
        return packed[None]

    def unpack(self, tokens_1Nx: Tensor) -> Tensor:
        """[B, S, x] of [1, N, x]. On padding stand numbers that nothing may read: no gradient comes back from there."""
        rows: Tensor = _Gather.apply(tokens_1Nx[0], 0, self.token_BS.flatten(), self.place_N)
        rows_BSx: Tensor = rows.unflatten(0, self.token_BS.shape)
        return rows_BSx

    def unpack_heads(self, tokens_1HNx: Tensor) -> Tensor:
        """[B, H, S, x] of [1, H, N, x], in the same way."""
        rows: Tensor = _Gather.apply(tokens_1HNx[0], 1, self.token_BS.flatten(), self.place_N)
        rows_BHSx: Tensor = rows.unflatten(1, self.token_BS.shape).transpose(0, 1)
        return rows_BHSx


class _Gather(torch.autograd.Function):
    """What lies at `index` along one dimension. Its gradient is read at `back`, or else put at `index`: there are no
    two that meet, so it is never summed, which is faster than indexing and in one order on a GPU."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, dim: int, index: Tensor, back: Tensor | None) -> Tensor:
        ctx.save_for_backward(index, back)
        ctx.dim, ctx.size = dim, values.shape[dim]
        return values.index_select(dim, index)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        index, back = ctx.saved_tensors
        if back is not None:
            return gradient.index_select(ctx.dim, back), None, None, None
        shape = list(gradient.shape)
        shape[ctx.dim] = ctx.size
        return gradient.new_zeros(shape).index_copy_(ctx.dim, index, gradient), None, None, None

"""Decoding rows of one byte per value, behind which stands the row's scale as a float32."""

from abc import abstractmethod
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from schemas.cache.arrays import ArrayRecord
from schemas.cache.row_scaled import SCALE_BYTES
from schemas.models.state_decoder import StateDecoder


class RowScaledDecoder(StateDecoder):
    """x = scale * what the code stands for."""

    def __init__(self, value_256: Tensor, width: int):
        """`value_256`: the number that each byte stands for, float32; `width`: d."""
        self.value_256, self.width = value_256, width

    @classmethod
    @abstractmethod
    def values(cls) -> Tensor:
        """[256] float32: the number that each byte stands for."""

    @classmethod
    def load(cls, cache: Path, array: ArrayRecord) -> Self:
        """Needs nothing of the cache."""
        return cls(cls.values(), array.width or 1)

    def to(self, device: torch.device) -> Self:
        """See `StateDecoder.to`."""
        return type(self)(self.value_256.to(device), self.width)

    def states(self, data: Tensor, size_N: Tensor, raw_R: Tensor | None = None) -> Tensor:
        """[N, d] float32. All rows have d + SCALE_BYTES bytes."""
        data_Nx = data.view(len(size_N), self.width + SCALE_BYTES)
        codes_Nd, scale_N4 = data_Nx[:, :-SCALE_BYTES], data_Nx[:, -SCALE_BYTES:]
        values_Nd = self.value_256.index_select(0, codes_Nd.flatten().int()).view(codes_Nd.shape)
        return values_Nd.mul_(scale_N4.clone(memory_format=torch.contiguous_format).view(torch.float32))

"""Whole numbers from -127 to 127."""

import torch
from torch import Tensor

from schemas.models.row_scaled import RowScaledDecoder


class Int8Decoder(RowScaledDecoder):
    """x = scale * int8."""

    name = "int8"

    @classmethod
    def values(cls) -> Tensor:
        """[256] float32."""
        return torch.arange(256, dtype=torch.uint8).view(torch.int8).float()


DECODER = Int8Decoder

"""8-bit floats, E4M3 without infinities."""

import torch
from torch import Tensor

from schemas.models.row_scaled import RowScaledDecoder


class Float8Decoder(RowScaledDecoder):
    """x = scale * float8_e4m3fn."""

    name = "fp8"

    @classmethod
    def values(cls) -> Tensor:
        """[256] float32."""
        return torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn).float()


DECODER = Float8Decoder

"""One byte per number, and the row's scale behind them: 8-bit floats, or whole numbers.

Shapes: N rows, d hidden size.
"""

import torch
from torch import Tensor

LEAST = 1e-30  # of a scale: a row of zeros


def encode_fp8(states_Nd: Tensor) -> Tensor:
    """[N, d + 4] uint8: E4M3 codes, whose largest stands for the row's largest number, and the scale as float32."""
    scale_N1 = _scale(states_Nd, torch.finfo(torch.float8_e4m3fn).max)
    return _with_scale((states_Nd.float() / scale_N1).to(torch.float8_e4m3fn).view(torch.uint8), scale_N1)


def encode_int8(states_Nd: Tensor) -> Tensor:
    """[N, d + 4] uint8: whole numbers from -127 to 127, and the scale as float32."""
    scale_N1 = _scale(states_Nd, 127.0)
    return _with_scale((states_Nd.float() / scale_N1).round().to(torch.int8).view(torch.uint8), scale_N1)


def _scale(states_Nd: Tensor, largest: float) -> Tensor:
    return (states_Nd.float().abs().amax(1, keepdim=True) / largest).clamp_min(LEAST)


def _with_scale(codes_Nd: Tensor, scale_N1: Tensor) -> Tensor:
    return torch.cat([codes_Nd, scale_N1.contiguous().view(torch.uint8)], 1)

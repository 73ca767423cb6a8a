"""Where a model runs, and in which precision."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from schemas.errors import ResourceError


def choose_device(name: str) -> torch.device:
    """auto: a GPU if there is one. Raises ResourceError if one is asked for by name and there is none."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ResourceError("device is cuda, but torch sees no GPU; set device: auto or cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


@contextmanager
def rounded_products(device: torch.device, rounded: bool) -> Iterator[None]:
    """Products of float32 matrices inside take TF32 on a GPU, if `rounded`: ten times as fast, and exact for what
    bfloat16 holds, as the teacher's states and head do; what they are summed in stays float32."""
    if not rounded or device.type != "cuda":
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def use_bfloat16(precision: str, device: torch.device, dtype: str = "float32") -> bool:
    """auto: bfloat16 for a student whose `dtype` it is, and on a GPU that computes in it; on CPUs without AMX it is
    slower than float32."""
    if precision == "auto":
        if dtype == "bfloat16":
            return True
        return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return precision == "bfloat16"

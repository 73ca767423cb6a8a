"""Where a model runs, and in which precision."""

import torch

from schemas.errors import ResourceError


def choose_device(name: str) -> torch.device:
    """auto: a GPU if there is one. Raises ResourceError if one is asked for by name and there is none."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ResourceError("device is cuda, but torch sees no GPU; set device: auto or cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def use_bfloat16(precision: str, device: torch.device) -> bool:
    """auto: bfloat16 on a GPU that computes in it; on CPUs without AMX it is slower than float32."""
    if precision == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return precision == "bfloat16"

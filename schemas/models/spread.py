"""A model whose layers accelerate has spread over GPUs, CPU memory and disk: where it is entered, and its weights.

Each of its modules brings what it is given to where it computes. A weight that is offloaded is on torch's meta device
between passes; the module's hook knows where it lies.
"""

from typing import Any

import torch
from torch import nn


def main_device(model: Any) -> torch.device:
    """Where token ids go in and the last states come out: the model's device, or the first GPU of a spread one."""
    places = getattr(model, "hf_device_map", None)
    if places is None:
        found: torch.device = model.device
        return found
    gpus = [place for place in places.values() if place not in ("cpu", "disk")]
    return torch.device("cuda", min(gpus)) if gpus else torch.device("cpu")


def at_hand(model: Any, module: Any, name: str) -> Any:
    """The weight `name` of a module of `model`, or None if it has none; of a spread model, on its main device; of a
    quantised one, as the plain numbers that it multiplies with.

    Costs reading it from disk, or copying it to the GPU, each time, if it lies elsewhere; and unpacking it.
    """
    weight = getattr(module, name)
    if weight is None or getattr(model, "hf_device_map", None) is None:
        return plain_weight(model, module, weight)
    held = module._hf_hook.weights_map[name] if weight.is_meta else weight
    return plain_weight(model, module, held.to(main_device(model)))


def plain_weight(model: Any, module: Any, weight: Any) -> Any:
    """The numbers of a weight that bitsandbytes or torchao may have packed, in the model's dtype."""
    if type(weight) in (torch.Tensor, nn.Parameter, type(None)):
        return weight
    if type(weight).__name__ in ("Params4bit", "Int8Params"):
        from transformers.integrations.bitsandbytes import dequantize_bnb_weight

        return dequantize_bnb_weight(weight, getattr(module, "state", None)).to(model.dtype)
    return weight.dequantize().to(model.dtype)

"""Moving what a step reads to the device that computes it."""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

Self = TypeVar("Self", bound="OnDevice")


class OnDevice:
    """A dataclass that moves every tensor in it, also those of its mappings and of what it holds of its own kind."""

    def to(self: Self, device: torch.device) -> Self:
        """A copy on `device`; tensors that are there already are shared."""
        moved = {f.name: _move(getattr(self, f.name), device) for f in fields(self)}  # type: ignore[arg-type]
        return replace(self, **moved)  # type: ignore[type-var]


def _move(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, OnDevice):
        return value.to(device)
    return {key: _move(item, device) for key, item in value.items()} if isinstance(value, Mapping) else value

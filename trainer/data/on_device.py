"""Moving what a step reads to the device that computes it."""

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

Self = TypeVar("Self", bound="OnDevice")


class OnDevice:
    """A dataclass that moves every tensor in it, also those of its mappings and of what it holds of its own kind."""

    def to(self: Self, device: torch.device) -> Self:
        """A copy on `device`; tensors that are there already are shared."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pinned(self: Self) -> Self:
        """A copy in memory that the system does not move, from which a GPU fetches while the CPU goes on."""
        return self._each(Tensor.pin_memory)

    def _each(self: Self, move: Callable[[Tensor], Tensor]) -> Self:
        moved = {f.name: _moved(getattr(self, f.name), move) for f in fields(self)}  # type: ignore[arg-type]
        return replace(self, **moved)  # type: ignore[type-var]


def _moved(value: Any, move: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return move(value)
    if isinstance(value, OnDevice):
        return value._each(move)
    return {key: _moved(item, move) for key, item in value.items()} if isinstance(value, Mapping) else value

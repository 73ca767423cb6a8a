"""Rounding that differs by the size of a batch, as on a GPU: products of another shape take other kernels there.

On a CPU they hardly ever differ.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def rounding_by_shape() -> Iterator[None]:
    """A tenth of the numbers that an nn.Linear gives is off by one unit in the last place, which ones by its shape."""
    forward = nn.Linear.forward

    def rounded(self: nn.Linear, x: Tensor) -> Tensor:
        exact = forward(self, x)
        if exact.dtype != torch.bfloat16:
            return exact
        generator = torch.Generator().manual_seed(exact.numel())
        chance = torch.rand(exact.shape, generator=generator)
        off = torch.where(chance < 1 / 20, 1 + 2**-8, torch.where(chance < 1 / 10, 1 - 2**-8, 1.0))
        return (exact.float() * off).to(exact.dtype)

    nn.Linear.forward = rounded  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        nn.Linear.forward = forward  # type: ignore[method-assign]

"""A student that is divided among ranks (FSDP2, torch's `fully_shard`): each holds its share of every weight, gradient
and moment, and a layer is whole only while it computes.

Embeddings, final norm and head stay whole between forward and backward, because losses multiply by the head outside of
the model's forward pass. So the memory of a step is a share of weights and state, plus one layer and the embeddings.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor

from trainer.optimisation.moments import moments


class _Whole(nn.Module):
    """What FSDP2 takes for the model: it gathers what is not a layer before `run`, whatever part of it that is."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, run: Callable[..., Any], **given: Any) -> Any:
        return run(**given)


@dataclass(frozen=True)
class Gathered:
    """Weights and moments as they would be of a student that is not divided, on the CPU; empty on ranks but the one
    that keeps them."""

    weights: dict[str, Tensor] = field(default_factory=dict)
    moments: dict[str, Tensor] = field(default_factory=dict)  # by parameter number


class Division:
    """A student in shares. Every rank must make each of its passes, in the same order."""

    def __init__(self, model: Any, device: torch.device, ranks: int):
        """Divides `model`, in place, among as many `ranks`, and moves its shares to `device`; they need not fit whole.

        Gradients are summed, not averaged.
        """
        mesh = init_device_mesh(device.type, (ranks,))
        layers = set(getattr(model, "_no_split_modules", None) or ())
        for module in list(model.modules()):
            if type(module).__name__ in layers:
                fully_shard(module, mesh=mesh)
        root: Any = fully_shard(_Whole(model), mesh=mesh, reshard_after_forward=False)
        self._root, self._model = root, model
        for module in root.modules():
            if isinstance(module, FSDPModule):
                module.set_gradient_divide_factor(1.0)
                module.set_force_sum_reduction_for_comms(True)
        root.set_reduce_scatter_unused_params(True)
        self._reached: Tensor | None = None

    def call(self, run: Callable[..., Any], **given: Any) -> Any:
        """`run(**given)`, a pass through the student or a part of it, with its weights at hand."""
        output = self._root(run, **given)
        self._reached = output[0]
        return output

    def nothing(self) -> Tensor:
        """0, whose gradient passes through all layers: on every rank they must be divided again in the same order."""
        assert self._reached is not None
        reached, self._reached = self._reached, None
        return 0.0 * reached.float().sum()

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Outside of `call`, the student can be run as any: every rank must do the same."""
        self._root.unshard()
        try:
            yield
        finally:
            for module in self._root.modules():
                if isinstance(module, FSDPModule):
                    module.reshard()

    def gather(self, optimizer: torch.optim.Optimizer, keep: bool) -> Gathered:
        """All shares together, one tensor after another; every rank must ask, and those that `keep` have the result."""
        found = Gathered()
        tied: dict[int, Tensor] = {}
        for name, tensor in self._model.state_dict(keep_vars=True).items():
            if id(tensor) not in tied:
                tied[id(tensor)] = _gathered(tensor, keep)
            found.weights[name] = tied[id(tensor)]
        for name, value in moments(optimizer).items():
            found.moments[name] = _gathered(value, keep)
        return found if keep else Gathered()


def _gathered(tensor: Tensor, keep: bool) -> Tensor:
    whole = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    return whole.detach().cpu() if keep else torch.empty(0)

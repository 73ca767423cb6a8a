"""A student that is divided among ranks (FSDP2, torch's `fully_shard`): each holds its share of every weight, gradient
and moment, and a layer is whole only while it computes.

Embeddings, final norm and head stay whole between forward and backward, because losses multiply by the head outside of
the model's forward pass. So a step of `n` ranks takes, on each, per weight 4 bytes of it, 4 of its gradient and 8 of
Adam's moments, over n; and of one layer, and of embeddings and head, whole weights and their gradients. A weight that
is not trained, as below an adapter, takes 4 bytes, or 2 in bfloat16, over n.

Of a student that is trained in bfloat16 the shares are its float32 masters, and what is gathered of them is rounded (to
the nearest, ties to even): the same student as by `masters`, without weights beside the masters. Whole weights and
their gradients then take 2 bytes, weights as they are sent between devices too; gradients are sent and summed in
float32. What losses give back to inner states is added to what later layers do in another order than without shares,
which bfloat16 shows.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from schemas.errors import ResourceError

# Weights that a step does not reach are in a reduction, too: all ranks must make the same ones.
REDUCES_ALL = "set_reduce_scatter_unused_params"


class _Whole(nn.Module):
    """What FSDP2 takes for the model: it gathers what is not a layer before `run`, whatever part of it that is."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, run: Callable[..., Any], **given: Any) -> Any:
        return run(**given)


class Division:
    """A student in shares. Every rank must make each of its passes, in the same order."""

    def __init__(self, model: Any, device: torch.device, ranks: int, dtype: torch.dtype | None = None):
        """Divides `model`, in place, among as many `ranks`, and moves its shares to `device`; they need not fit whole.

        Weights are gathered, and saved, in `dtype`, or else in that of the shares. Gradients are summed, not averaged.
        Raises ResourceError if this torch cannot divide one.
        """
        if not hasattr(FSDPModule, REDUCES_ALL):
            raise ResourceError(
                f"sharding: full takes torch 2.13, whose FSDP2 has {REDUCES_ALL}; this is {torch.__version__}. Install "
                "that, or set sharding to none"
            )
        # GPT-2's last states are a view of others. No loss writes into what the student puts out.
        warnings.filterwarnings("ignore", r"FSDP2-wrapped module \(_?\w+\) returned a view", UserWarning)
        mesh = init_device_mesh(device.type, (ranks,))
        # What a layer is given keeps its dtype, as in a student that is not divided.
        policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
        layers = set(getattr(model, "_no_split_modules", None) or ())
        for module in list(model.modules()):
            if type(module).__name__ in layers:
                fully_shard(module, mesh=mesh, mp_policy=policy)
        root: Any = fully_shard(_Whole(model), mesh=mesh, reshard_after_forward=False, mp_policy=policy)
        self._root, self._model, self._dtype = root, model, dtype
        for module in root.modules():
            if isinstance(module, FSDPModule):
                module.set_gradient_divide_factor(1.0)
                module.set_force_sum_reduction_for_comms(True)
        getattr(root, REDUCES_ALL)(True)
        self._reached: Tensor | None = None

    @property
    def masters(self) -> dict[nn.Parameter, nn.Parameter]:
        """The float32 masters of weights that are gathered in another dtype: each share is its own."""
        shares = self._model.parameters() if self._dtype else ()
        return {share: share for share in shares if share.requires_grad}

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

    @contextmanager
    def assembled(self, keep: bool, only_trained: bool = False) -> Iterator[None]:
        """Inside, the student can be saved as any on the ranks that `keep`: its weights, or those that are trained, lie
        there whole, on the CPU. Every rank must enter, and none may run it."""
        shares = [
            (module, name, share)
            for module in self._model.modules()
            for name, share in module._parameters.items()
            if isinstance(share, DTensor) and (share.requires_grad or not only_trained)
        ]
        tied: dict[int, nn.Parameter] = {}
        for _, _, share in shares:
            if id(share) not in tied:
                (weight,) = gathered({"": share.detach().to(self._dtype or share.dtype)}, keep).values()
                tied[id(share)] = nn.Parameter(weight, share.requires_grad)
        try:
            for module, name, share in shares if keep else []:
                module._parameters[name] = tied[id(share)]
            yield
        finally:
            for module, name, share in shares:
                module._parameters[name] = share


def gathered(tensors: Mapping[str, Tensor], keep: bool) -> dict[str, Tensor]:
    """Each of them whole, on the CPU, from all shares; one after another. Every rank must ask if any is divided, and
    those that do not `keep` them have nothing in their place."""
    return {name: _whole(tensor, keep) for name, tensor in tensors.items()}


def _whole(tensor: Tensor, keep: bool) -> Tensor:
    whole = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    return whole.detach().cpu() if keep else torch.empty(0)

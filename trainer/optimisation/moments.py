"""What an optimiser keeps of its parameters, as tensors by name: a checkpoint holds them.

Its parameters themselves are among them if they are masters, of which the model has rounded weights.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor

from trainer.optimisation.masters import round_masters, rounded_weights

MASTER = "master"


def moments(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """`3.exp_avg` is the state `exp_avg` of parameter number 3, counted over all groups from 0; `3.master` is it."""
    masters = {f"{number}.{MASTER}": master for number, master, _ in rounded_weights(optimizer)}
    return masters | {
        f"{number}.{name}": value
        for number, parameter in enumerate(_parameters(optimizer))
        for name, value in optimizer.state.get(parameter, {}).items()
    }


def put_back_moments(optimizer: torch.optim.Optimizer, kept: Mapping[str, Tensor]) -> None:
    """Put `moments` back. Raises ValueError or LookupError for those of another optimiser or of other parameters."""
    parameters = _parameters(optimizer)
    kept = dict(kept)
    for number, master, _ in rounded_weights(optimizer):
        _put_back_master(master, number, kept.pop(f"{number}.{MASTER}"))
    round_masters(optimizer)
    states: dict[int, dict[str, Tensor]] = {}
    for key, value in kept.items():
        place, name = key.split(".")
        states.setdefault(int(place), {})[name] = value
    for number, state in states.items():
        parameter = parameters[number]
        wanted = _shapes(optimizer, parameter)
        if state.keys() != wanted.keys():
            raise ValueError(f"parameter {number} has {_list(state)} of its moments instead of {_list(wanted)}")
        for name, value in state.items():
            if value.shape != wanted[name]:
                raise ValueError(
                    f"moment {number}.{name} has the shape {tuple(value.shape)} instead of {tuple(wanted[name])}"
                )
            # Step counts lie on the CPU unless the optimiser is fused.
            on_cpu = name == "step" and not optimizer.defaults.get("fused")
            device = torch.device("cpu") if on_cpu else parameter.device
            put = value.to(device, copy=True)
            optimizer.state[parameter][name] = put if name == "step" else divided_as(put, parameter)


@torch.no_grad()
def _put_back_master(master: Tensor, number: int, value: Tensor) -> None:
    if value.shape != master.shape:
        raise ValueError(f"master {number} has the shape {tuple(value.shape)} instead of {tuple(master.shape)}")
    master.copy_(divided_as(value, master))


def divided_as(value: Tensor, parameter: Tensor) -> Tensor:
    """This rank's share of a moment of `parameter`; all of it if the parameter is whole."""
    if not isinstance(parameter, DTensor):
        return value.to(parameter.device, copy=True)
    place = value.to(parameter.device)
    return distribute_tensor(place, parameter.device_mesh, parameter.placements, src_data_rank=None)


def _shapes(optimizer: torch.optim.Optimizer, parameter: Tensor) -> dict[str, torch.Size]:
    """What the optimiser keeps of a parameter once it has taken a step."""
    shape, scalar = parameter.shape, torch.Size()
    if isinstance(optimizer, torch.optim.SGD):
        return {"momentum_buffer": shape} if optimizer.defaults["momentum"] else {}
    if isinstance(optimizer, torch.optim.Adafactor):
        if len(shape) < 2:
            return {"step": scalar, "variance": shape}
        row, column = (*shape[:-1], 1), (*shape[:-2], 1, shape[-1])
        return {"step": scalar, "row_var": torch.Size(row), "col_var": torch.Size(column)}
    return {"step": scalar, "exp_avg": shape, "exp_avg_sq": shape}


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _list(names: Mapping[str, object]) -> str:
    return ", ".join(sorted(names)) or "none"

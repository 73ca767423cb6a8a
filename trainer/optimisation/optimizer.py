"""The optimiser that the config names, with its groups, and their learning rates."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from schemas.configs.training import OptimizerConfig
from trainer.optimisation.masters import group_of_masters, round_masters
from trainer.optimisation.schedule import share_of_peak


def make_optimizer(
    model: nn.Module,
    extra: Iterable[dict[str, Any]],
    config: OptimizerConfig,
    masters: Mapping[nn.Parameter, nn.Parameter] = {},
) -> torch.optim.Optimizer:
    """Student matrices decay, and its biases and norms if `decay` is all; the losses' own parameters bring their groups
    along.

    Each group carries `peak`, the learning rate that the schedule scales. The optimiser works on the `masters` of
    weights that have them, which are rounded after each step.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    of_vectors = config.weight_decay if config.decay == "all" else 0.0
    groups: list[dict[str, Any]] = [
        {"params": [p for p in trained if p.ndim >= 2], "lr": config.lr, "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "lr": config.lr, "weight_decay": of_vectors},
        *extra,
    ]
    found = [group_of_masters(group, masters) | {"peak": group["lr"]} for group in groups if group["params"]]
    optimizer = _named(found, config)
    if masters:
        optimizer.register_step_post_hook(round_masters)
    return optimizer


def _named(groups: list[dict[str, Any]], config: OptimizerConfig) -> torch.optim.Optimizer:
    match config.name:
        case "adam":
            return torch.optim.Adam(groups, betas=config.betas, eps=config.eps, fused=True)
        case "sgd":
            divided = any(isinstance(parameter, DTensor) for group in groups for parameter in group["params"])
            # torch takes no steps of a fused SGD in shares.
            return torch.optim.SGD(groups, momentum=config.betas[0], fused=not divided)
        case "adafactor":
            return torch.optim.Adafactor(groups)
    return torch.optim.AdamW(groups, betas=config.betas, eps=config.eps, fused=True)


def set_learning_rate(optimizer: torch.optim.Optimizer, config: OptimizerConfig, step: int, steps: int) -> float:
    """Set every group's rate for `step` of 0..steps-1, projections by the same share; returns the student's."""
    share = share_of_peak(config, step, steps)
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * share
    return config.lr * share

"""AdamW with the groups and the schedule that the config asks for."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from schemas.configs.training import OptimizerConfig


def make_optimizer(model: nn.Module, extra: Iterable[dict[str, Any]], config: OptimizerConfig) -> torch.optim.AdamW:
    """Student matrices decay, and its biases and norms if `decay` is all; the losses' own parameters bring their groups
    along.

    Each group carries `peak`, the learning rate that the schedule scales.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    of_vectors = config.weight_decay if config.decay == "all" else 0.0
    groups: list[dict[str, Any]] = [
        {"params": [p for p in trained if p.ndim >= 2], "lr": config.lr, "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "lr": config.lr, "weight_decay": of_vectors},
        *extra,
    ]
    groups = [group | {"peak": group["lr"]} for group in groups if group["params"]]
    return torch.optim.AdamW(groups, betas=config.betas, eps=config.eps, fused=True)


def set_learning_rate(optimizer: torch.optim.Optimizer, config: OptimizerConfig, step: int, steps: int) -> float:
    """Set every group's rate for `step` of 0..steps-1; returns the student's.

    Linear from peak/warm-up steps to the peak, then a half cosine down to `min_lr` (projections: the same share).
    """
    warmup = round(config.warmup * steps)
    floor = config.min_lr / config.lr
    if step < warmup:
        share = (step + 1) / warmup
    else:
        progress = (step - warmup) / max(1, steps - 1 - warmup)
        share = floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * share
    return config.lr * share

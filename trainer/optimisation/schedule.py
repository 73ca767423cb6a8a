"""The learning rate over the steps of a run, as a share of its peak."""

import math

from schemas.configs.training import OptimizerConfig


def share_of_peak(config: OptimizerConfig, step: int, steps: int) -> float:
    """For `step` of 0..steps-1, in min_lr / lr..1: linear from 1 / warm-up steps to 1, then as the schedule has it.

    The first step after the warm-up is at the peak and the last one at `min_lr`, as those after it would be. Of wsd
    (Hu et al., MiniCPM, arXiv 2404.06395) the step before the cooldown is the last one at the peak.
    """
    warmup = round(config.warmup * steps)
    if step < warmup:
        return (step + 1) / warmup
    floor = config.min_lr / config.lr
    match config.schedule:
        case "constant":
            return 1.0
        case "wsd":
            cooldown = round(config.cooldown * steps)
            done = max(0, step + 1 - (steps - cooldown)) / max(1, cooldown)
            return floor + (1 - floor) * _left(config.cooldown_shape, min(1.0, done))
    done = min(1.0, (step - warmup) / max(1, steps - 1 - warmup))
    return floor + (1 - floor) * _left(config.schedule, done)


def _left(shape: str, done: float) -> float:
    match shape:
        case "linear":
            return 1 - done
        case "sqrt":
            return 1 - math.sqrt(done)
    return 0.5 * (1 + math.cos(math.pi * done))

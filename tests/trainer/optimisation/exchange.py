"""What two ranks exchange in the tests of `ranks` and `gradients`, as work for `start_ranks`."""

from typing import Any

import torch
from torch import nn

from schemas.configs.training import TrainingConfig
from schemas.errors import CacheError, RunError
from trainer.optimisation.gradients import sum_gradients
from trainer.optimisation.ranks import Ranks
from trainer.runs.group import joined

REFUSED = (CacheError("the cache is busy"), FileNotFoundError(2, "No such file or directory", "/x"))


def exchange(config: TrainingConfig) -> dict[str, Any]:
    """The findings of the first rank."""
    with joined(config) as ranks:
        odd = 0.1 + 0.2 + ranks.rank  # 17 digits
        found: dict[str, Any] = {
            "gathered": ranks.gather({"from": ranks.rank, "long": "x" * (5 + 300 * ranks.rank)}),
            "first": ranks.by_first(lambda: f"of {ranks.rank}"),
            "refused": [ranks.gather(refused(ranks, error)) for error in REFUSED],
            "sum": ranks.sum({"both": odd, f"only {ranks.rank}": 1.0}),
            "shares": ranks.gather([list(ranks.share(range(5))), list(ranks.share([7]))]),
        }
        found["gradients"] = ranks.gather(gradients(ranks))
    return found


def refused(ranks: Ranks, error: Exception) -> tuple[str, str]:
    """What a rank raises where the first one fails: its class and its words."""

    def fail() -> None:
        raise error

    try:
        ranks.by_first(fail)
    except (CacheError, RunError, OSError) as raised:
        return type(raised).__name__, str(raised)
    raise AssertionError("nothing was raised")


def gradients(ranks: Ranks) -> list[list[float] | None]:
    """Of parameters that have one on both ranks, on either, and on none; of two dtypes."""
    held: list[list[float] | None] = [[1.0, 2.0], [4.0] if ranks.rank else None, None if ranks.rank else [8.0], None]
    dtypes = [torch.float32, torch.float64, torch.float32, torch.float32]
    parameters = [
        nn.Parameter(torch.zeros(len(each or [0]), dtype=dtype)) for each, dtype in zip(held, dtypes, strict=True)
    ]
    for parameter, values in zip(parameters, held, strict=True):
        if values is not None:
            parameter.grad = torch.tensor(values, dtype=parameter.dtype) * (1 + ranks.rank)
    sum_gradients(parameters, ranks)
    return [None if parameter.grad is None else parameter.grad.tolist() for parameter in parameters]

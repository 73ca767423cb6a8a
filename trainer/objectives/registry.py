"""Finding a loss by its config: the module of its name in this package, or the one that its config names."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

from schemas.configs.losses.base import WeightedLoss
from schemas.errors import ConfigError
from trainer.objectives.context import LossContext
from trainer.objectives.loss import Loss


def find_loss(config: type[WeightedLoss]) -> Callable[[Any, LossContext], Loss]:
    """The class of the loss, to be built of a config and a context. Raises ConfigError if its module has none."""
    module = config.module or f"{__package__}.{config.name}"
    try:
        found = import_module(module).LOSS
    # Another's module may raise anything; it is passed on, named.
    except Exception as error:
        problem = f"{type(error).__name__}: {error}"
        raise ConfigError(f"cannot load the loss {config.name!r} of {module}: {problem}") from error
    if not (isinstance(found, type) and issubclass(found, Loss)):
        raise ConfigError(f"{module}.LOSS, the loss {config.name!r}, is not derived from {Loss.__module__}.Loss")
    return found

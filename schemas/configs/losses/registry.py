"""The losses that an objective may name: a module of this package each, and those of installed packages.

A loss is a config class here and a module of trainer.objectives, both under its name. Another's package names its
config class as an entry point of the group `stillroom.losses`, and the class says in `module` where its loss is.
"""

from typing import Annotated

from schemas.configs.choice import ChosenByName
from schemas.configs.losses.base import WeightedLoss
from schemas.form import require_subclass
from schemas.registry import Registry


def _require_usable(config: type[WeightedLoss]) -> None:
    require_subclass(config, WeightedLoss)
    if "module" not in vars(config):
        raise ValueError(f"{config.__name__}.module must say in which module its `LOSS` is")


LOSSES: Registry[type[WeightedLoss]] = Registry(
    "loss", "schemas.configs.losses", "LOSS", "stillroom.losses", _require_usable
)
LossConfig = Annotated[WeightedLoss, ChosenByName("loss", LOSSES)]

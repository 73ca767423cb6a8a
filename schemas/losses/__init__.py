"""What an objective is made of: a list of weighted losses, each with the knobs its paper names. One module a loss."""

from typing import Annotated

from pydantic import Field

from schemas.losses.base import Projection, Texts, WeightedLoss
from schemas.losses.ce import CrossEntropyConfig
from schemas.losses.kd import KDConfig
from schemas.losses.mta import MTAConfig
from schemas.losses.sra import SRAConfig

LossConfig = Annotated[
    CrossEntropyConfig | KDConfig | MTAConfig | SRAConfig,
    Field(discriminator="loss"),
]

__all__ = [
    "CrossEntropyConfig",
    "KDConfig",
    "LossConfig",
    "MTAConfig",
    "Projection",
    "SRAConfig",
    "Texts",
    "WeightedLoss",
]

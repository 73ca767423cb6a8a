"""What an objective is made of: a list of weighted losses, each with the knobs its paper names. One module a loss."""

from typing import Annotated

from pydantic import Field

from schemas.configs.losses.alm import ALMConfig
from schemas.configs.losses.base import Projection, Texts, WeightedLoss
from schemas.configs.losses.ce import CrossEntropyConfig
from schemas.configs.losses.dskd import DSKDConfig, Projectors
from schemas.configs.losses.fdd import FDDConfig
from schemas.configs.losses.kd import KDConfig
from schemas.configs.losses.mined import MinEDConfig
from schemas.configs.losses.mta import MTAConfig
from schemas.configs.losses.multilevel_ot import MultiLevelOTConfig
from schemas.configs.losses.sra import SRAConfig
from schemas.configs.losses.talas import TALASConfig
from schemas.configs.losses.uld import ULDConfig

LossConfig = Annotated[
    ALMConfig
    | CrossEntropyConfig
    | DSKDConfig
    | FDDConfig
    | KDConfig
    | MTAConfig
    | MinEDConfig
    | MultiLevelOTConfig
    | SRAConfig
    | TALASConfig
    | ULDConfig,
    Field(discriminator="loss"),
]

__all__ = [
    "ALMConfig",
    "CrossEntropyConfig",
    "DSKDConfig",
    "FDDConfig",
    "KDConfig",
    "LossConfig",
    "MTAConfig",
    "MinEDConfig",
    "MultiLevelOTConfig",
    "Projection",
    "Projectors",
    "SRAConfig",
    "TALASConfig",
    "Texts",
    "ULDConfig",
    "WeightedLoss",
]

"""What an objective is made of: a list of weighted losses, each with the knobs its paper names. One module a loss."""

from typing import Annotated

from pydantic import Field

from schemas.losses.alm import ALMConfig
from schemas.losses.base import Projection, Texts, WeightedLoss
from schemas.losses.ce import CrossEntropyConfig
from schemas.losses.dskd import DSKDConfig, Projectors
from schemas.losses.fdd import FDDConfig
from schemas.losses.kd import KDConfig
from schemas.losses.mined import MinEDConfig
from schemas.losses.mta import MTAConfig
from schemas.losses.multilevel_ot import MultiLevelOTConfig
from schemas.losses.sra import SRAConfig
from schemas.losses.talas import TALASConfig
from schemas.losses.uld import ULDConfig

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

"""Divergences between the token distributions of teacher and student, for one shared tokenizer."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.losses.base import WeightedLoss


class KDConfig(WeightedLoss):
    """Forward KL(teacher || student) on exact teacher logits, times tau^2, a mean over response tokens."""

    loss: Literal["kd"] = "kd"
    temperature: Annotated[float, Field(gt=0, description="tau; the loss is multiplied by tau^2.")] = 1.0

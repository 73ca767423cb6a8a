"""Dual-space knowledge distillation."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from schemas.configs.losses.base import Weight, WeightedLoss
from schemas.strict import Strict


class Projectors(Strict):
    """DSKD's linear maps between the two spaces, without weight decay; the defaults are those of the reference code."""

    init: Annotated[
        Literal["linear", "orthogonal", "xavier"],
        Field(description="How they start; linear is what torch gives a linear layer (reference)."),
    ] = "linear"
    bias: Annotated[bool, Field(description="Whether they have a bias.")] = True
    lr: Annotated[
        float, Field(gt=0, le=1e6, description="Their peak learning rate; it follows the student's schedule.")
    ] = 1e-3


class DSKDConfig(WeightedLoss):
    """Dual-space knowledge distillation (arXiv 2406.17328), with cross-model attention if the tokenizers differ."""

    loss: Literal["dskd"] = "dskd"
    weight: Annotated[Weight, Field(description="The paper halves the objective: ce and dskd have 0.5 each.")] = 1.0
    student_space: Annotated[
        Weight, Field(description="Weight of t2s_kd, and of t2s_ce, which trains the projector that t2s_kd reads.")
    ] = 1.0
    teacher_space: Annotated[Weight, Field(description="Weight of s2t_kd.")] = 1.0
    temperature: Annotated[
        float, Field(gt=0, le=1e6, description="tau of both KLs; they are not multiplied by tau^2.")
    ] = 2.0
    mask_wrong: Annotated[
        Literal["auto", "always", "never"],
        Field(
            description="Leave out of t2s_kd the tokens that the projected teacher gets wrong; auto: where the "
            "tokenizers differ (reference)."
        ),
    ] = "auto"
    projectors: Projectors = Projectors()

    @model_validator(mode="after")
    def _has_a_term(self) -> "DSKDConfig":
        if self.student_space == self.teacher_space == 0:
            raise ValueError("student_space and teacher_space are both 0: the loss would be nothing")
        return self


LOSS = DSKDConfig

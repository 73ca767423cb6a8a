"""Dual-space knowledge distillation."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from schemas.bounds import LearningRate, Temperature
from schemas.configs.losses.base import Weight, WeightedLoss
from schemas.strict import Strict


class Projectors(Strict):
    """DSKD's linear maps between the two spaces. Start, bias and rate are those of songmzhang/DSKD @ 077337a."""

    init: Literal["linear", "orthogonal", "xavier"] = "linear"
    """How they start; linear is what torch gives a linear layer (reference: songmzhang/DSKD @ 077337a,
    distiller.py)."""
    bias: bool = True
    """They have a bias."""
    lr: LearningRate = 1e-3
    """Their peak learning rate; it follows the student's schedule."""
    weight_decay: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    """Their weight decay; 0.01 (reference: songmzhang/DSKD @ 077337a, whose optimiser decays all alike)."""


class DSKDConfig(WeightedLoss):
    """Dual-space knowledge distillation (arXiv 2406.17328), with cross-model attention if the tokenizers differ."""

    loss: Literal["dskd"] = "dskd"
    weight: Weight = 1.0
    """The paper halves the objective: ce and dskd have 0.5 each."""
    student_space: Weight = 1.0
    """Weight of t2s_kd, and of t2s_ce, which trains the projector that t2s_kd reads."""
    teacher_space: Weight = 1.0
    """Weight of s2t_kd."""
    temperature: Temperature = 2.0
    """tau of both KLs; they are not multiplied by tau^2."""
    mask_wrong: Literal["auto", "always", "never"] = "auto"
    """Leave out of t2s_kd the tokens that the projected teacher gets wrong; auto: where the tokenizers differ
    (reference: songmzhang/DSKD @ 077337a, its two dual-space criteria)."""
    projectors: Projectors = Projectors()

    @model_validator(mode="after")
    def _has_a_term(self) -> "DSKDConfig":
        if self.student_space == self.teacher_space == 0:
            raise ValueError("student_space and teacher_space are both 0: the loss would be nothing")
        return self


LOSS = DSKDConfig

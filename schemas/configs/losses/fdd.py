"""Feature dynamics distillation."""

from typing import Literal

from pydantic import model_validator

from schemas.bounds import Temperature
from schemas.configs.losses.base import Weight, WeightedLoss
from schemas.layers import Layer, LayerSelection, Top


class FDDConfig(WeightedLoss):
    """Feature dynamics distillation: what the key layers would predict, and how it changes; one tokenizer."""

    loss: Literal["fdd"] = "fdd"
    trajectory: Weight = 1.0
    """Weight of the KL between intermediate predictions."""
    derivative: Weight = 1.0
    """Weight of 1 - cos between the layer-to-layer changes of log-probabilities."""
    temperature: Temperature = 2.0
    """tau of the trajectory; the loss is not multiplied by tau^2 (reference: wind123mountain/MTA @ 37298fc,
    span_fdd_finetune.py)."""
    positions: Literal["response", "text"] = "response"
    """Where the two are compared: at the predictions of the response, or at every token that both have (reference:
    wind123mountain/MTA @ 37298fc, span_fdd_finetune.py; FDD's own authors have published no code)."""
    student_layers: LayerSelection = Top(top=3)
    """Key layers of the student."""
    teacher_layers: list[Layer] | None = None
    """Their teacher layers, ascending; left out, phi(l) = round(l * L_T / L_S)."""

    @model_validator(mode="after")
    def _has_a_term(self) -> "FDDConfig":
        if self.trajectory == self.derivative == 0:
            raise ValueError("trajectory and derivative are both 0: the loss would be nothing")
        return self


LOSS = FDDConfig

"""Feature dynamics distillation."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from schemas.configs.losses.base import Weight, WeightedLoss
from schemas.layers import Layer, LayerSelection, Top


class FDDConfig(WeightedLoss):
    """Feature dynamics distillation: what the key layers would predict, and how it changes; one tokenizer."""

    loss: Literal["fdd"] = "fdd"
    trajectory: Annotated[Weight, Field(description="Weight of the KL between intermediate predictions.")] = 1.0
    derivative: Annotated[
        Weight, Field(description="Weight of 1 - cos between the layer-to-layer changes of log-probabilities.")
    ] = 1.0
    temperature: Annotated[
        float,
        Field(gt=0, le=1e6, description="tau of the trajectory; the loss is not multiplied by tau^2 (reference)."),
    ] = 2.0
    student_layers: Annotated[LayerSelection, Field(description="Key layers of the student.")] = Top(top=3)
    teacher_layers: Annotated[
        list[Layer] | None,
        Field(description="Their teacher layers, ascending; left out, phi(l) = round(l * L_T / L_S)."),
    ] = None

    @model_validator(mode="after")
    def _has_a_term(self) -> "FDDConfig":
        if self.trajectory == self.derivative == 0:
            raise ValueError("trajectory and derivative are both 0: the loss would be nothing")
        return self


LOSS = FDDConfig

"""Multi-level optimal transport."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from schemas.bounds import Temperature
from schemas.configs.losses.base import Weight, WeightedLoss


class MultiLevelOTConfig(WeightedLoss):
    """Optimal transport between token and between sequence distributions, any two tokenizers (arXiv 2412.14528)."""

    loss: Literal["multilevel_ot"] = "multilevel_ot"
    weight: Weight = 0.15
    """alpha of the paper, where ce has weight 1."""
    absolute: Weight = 1.0
    """Weight of L_HAD, the holistic absolute difference."""
    logarithmic: Weight = 0.1
    """beta, weight of L_SL, the sequential logarithmic loss."""
    sinkhorn: Weight = 0.1
    """gamma, weight of L_SD, the Sinkhorn distance of sequences."""
    top_k: Annotated[int, Field(ge=1, le=1_000_000)] = 50
    """k: how many tokens of either vocabulary are compared."""
    temperature: Temperature = 1.0
    """tau_SL, of L_HAD, L_SL and the ranking."""
    sinkhorn_temperature: Temperature = 2.0
    """tau_SD, of L_SD."""
    regularisation: Annotated[float, Field(ge=0.05, le=1e6)] = 0.1
    """lambda, weight of the plan's entropy; further down, float32 underflows."""
    iterations: Annotated[int, Field(ge=1, le=1_000_000)] = 20
    """N, Sinkhorn iterations."""

    @model_validator(mode="after")
    def _has_a_term(self) -> "MultiLevelOTConfig":
        if self.absolute == self.logarithmic == self.sinkhorn == 0:
            raise ValueError("absolute, logarithmic and sinkhorn are all 0: the loss would be nothing")
        return self


LOSS = MultiLevelOTConfig

"""Multi-level optimal transport."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from schemas.configs.losses.base import Weight, WeightedLoss


class MultiLevelOTConfig(WeightedLoss):
    """Optimal transport between token and between sequence distributions, any two tokenizers (arXiv 2412.14528)."""

    loss: Literal["multilevel_ot"] = "multilevel_ot"
    weight: Annotated[Weight, Field(description="alpha of the paper, where ce has weight 1.")] = 0.15
    absolute: Annotated[Weight, Field(description="Weight of L_HAD, the holistic absolute difference.")] = 1.0
    logarithmic: Annotated[Weight, Field(description="beta, weight of L_SL, the sequential logarithmic loss.")] = 0.1
    sinkhorn: Annotated[Weight, Field(description="gamma, weight of L_SD, the Sinkhorn distance of sequences.")] = 0.1
    top_k: Annotated[
        int, Field(ge=1, le=1_000_000, description="k: so many tokens of either vocabulary are compared.")
    ] = 50
    temperature: Annotated[float, Field(gt=0, le=1e6, description="tau_SL, of L_HAD, L_SL and the ranking.")] = 1.0
    sinkhorn_temperature: Annotated[float, Field(gt=0, le=1e6, description="tau_SD, of L_SD.")] = 2.0
    regularisation: Annotated[
        float,
        Field(ge=0.05, le=1e6, description="lambda, weight of the plan's entropy; further down, float32 underflows."),
    ] = 0.1
    iterations: Annotated[int, Field(ge=1, le=1_000_000, description="N, Sinkhorn iterations.")] = 20

    @model_validator(mode="after")
    def _has_a_term(self) -> "MultiLevelOTConfig":
        if self.absolute == self.logarithmic == self.sinkhorn == 0:
            raise ValueError("absolute, logarithmic and sinkhorn are all 0: the loss would be nothing")
        return self


LOSS = MultiLevelOTConfig

"""Universal logit distillation."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.configs.losses.base import Weight, WeightedLoss


class ULDConfig(WeightedLoss):
    """L1 distance between sorted probability vectors, any two tokenizers (arXiv 2402.12030)."""

    loss: Literal["uld"] = "uld"
    weight: Annotated[Weight, Field(description="lambda of the paper, where ce has weight 1.")] = 1.0
    temperature: Annotated[float, Field(gt=0, le=1e6, description="tau of both distributions.")] = 1.0
    pairs: Annotated[
        Literal["order", "span"],
        Field(
            description="The k-th prediction of one side is held against the k-th of the other (the paper), or those "
            "at the ends of aligned spans, which follow the same text, are."
        ),
    ] = "order"
    normalise: Annotated[
        Literal["token", "sample"],
        Field(description="A mean over the student's tokens (the paper's sum, as ce), or of sample means (reference)."),
    ] = "token"


LOSS = ULDConfig

"""Universal logit distillation."""

from typing import Literal

from schemas.bounds import Temperature
from schemas.configs.losses.base import Weight, WeightedLoss


class ULDConfig(WeightedLoss):
    """L1 distance between sorted probability vectors, any two tokenizers (arXiv 2402.12030)."""

    loss: Literal["uld"] = "uld"
    weight: Weight = 1.0
    """lambda of the paper, where ce has weight 1."""
    temperature: Temperature = 1.0
    """tau of both distributions."""
    pairs: Literal["order", "span"] = "order"
    """Compare the k-th prediction of one side with the k-th of the other (the paper), target by target, or those at the
    ends of aligned spans, which follow the same text."""
    normalise: Literal["token", "sample"] = "token"
    """A mean over the student's tokens (the paper's sum, as ce), or of sample means (reference:
    Nicolas-BZRD/llm-recipes @ ab6e798, distillation_model.py)."""


LOSS = ULDConfig

"""Next-token cross-entropy."""

from typing import Literal

from schemas.configs.losses.base import WeightedLoss


class CrossEntropyConfig(WeightedLoss):
    """Next-token cross-entropy on the response, a mean over its tokens."""

    loss: Literal["ce"] = "ce"


LOSS = CrossEntropyConfig

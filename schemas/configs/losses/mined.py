"""Distillation over tokens that are aligned by minimum edit distance."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.bounds import Temperature
from schemas.configs.losses.base import WeightedLoss


class MinEDConfig(WeightedLoss):
    """Forward KL to the teacher's distribution, mapped by minimum edit distance; any two tokenizers (2401.10491)."""

    loss: Literal["mined"] = "mined"
    temperature: Temperature = 1.0
    """tau of both distributions."""
    top_k: Annotated[int | None, Field(ge=1, le=1_000_000)] = 10
    """How many of the teacher's likeliest tokens are mapped (10: FuseLLM's scripts). null: all of its vocabulary
    (DSKD's reimplementation), for which every token is looked up when a run starts."""
    merge: Literal["max", "sum"] = "max"
    """Where several teacher tokens map to one of the student's: the likeliest counts and the rest is dropped
    (reference: 18907305772/FuseLLM @ 562c7b0, others.py), or their probabilities add up."""
    unaligned: Literal["one_hot", "skip"] = "one_hot"
    """Predictions without a counterpart learn the text's own token (references: FuseLLM @ 562c7b0, songmzhang/DSKD @
    077337a), or nothing."""


LOSS = MinEDConfig

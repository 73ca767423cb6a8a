"""Multi-granular trajectory alignment."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from schemas.configs.losses.base import Projection, Weight, WeightedLoss
from schemas.layers import Layer, LayerSelection, Top


class MTAConfig(WeightedLoss):
    """Multi-granular trajectory alignment over words and phrases (arXiv 2605.01374); any two tokenizers."""

    loss: Literal["mta"] = "mta"
    dsa: Weight = 2.0
    """lambda_DSA, weight of dynamic structural alignment."""
    hid: Weight = 0.2
    """lambda_Hid, weight of hidden-state alignment."""
    student_layers: LayerSelection = Top(top=3)
    """Key layers of the student."""
    teacher_layers: list[Layer] | None = None
    """Their teacher layers, ascending; left out, phi(l) = round(l * L_T / L_S)."""
    word_layers: Annotated[int | None, Field(ge=0, le=1_000_000)] = None
    """How many of the lowest key layers are at word level; left out, a third."""
    phrases: Annotated[list[Literal["noun", "verb"]], Field(min_length=1)] = [
        "noun",
        "verb",
    ]
    """What counts as a phrase."""
    token_weights: Literal["attention", "uniform"] = "attention"
    """Tokens weigh by eq. 5-7, or all the same."""
    pooling_weights: Literal["student", "teacher"] = "student"
    """Whose token weights pool the student's spans; teacher needs one tokenizer."""
    normalise: Literal["sample", "batch"] = "sample"
    """L_DSA is a weighted mean within a sample, or over the batch (reference: wind123mountain/MTA @ 37298fc,
    span_utils.py); L_Hid is one within a sample."""
    hid_reduction: Literal["sum", "mean"] = "sum"
    """L_Hid over key layers: sum (the paper) or mean (reference: wind123mountain/MTA @ 37298fc, span_utils.py)."""
    hid_pairs: Literal["auto", "token", "word"] = "auto"
    """L_Hid pairs tokens or words; auto: tokens if the tokenizers are one."""
    scope: Literal["text", "response"] = "text"
    """Spans of the whole text, or of the response only."""
    projection: Projection = Projection()

    @model_validator(mode="after")
    def _has_a_term(self) -> "MTAConfig":
        if self.dsa == self.hid == 0:
            raise ValueError("dsa and hid are both 0: the loss would be nothing")
        return self


LOSS = MTAConfig

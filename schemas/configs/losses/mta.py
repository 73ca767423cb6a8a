"""Multi-granular trajectory alignment."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from schemas.configs.losses.base import Projection, Weight, WeightedLoss
from schemas.layers import Layer, LayerSelection, Top


class MTAConfig(WeightedLoss):
    """Multi-granular trajectory alignment over words and phrases (arXiv 2605.01374); any two tokenizers."""

    loss: Literal["mta"] = "mta"
    dsa: Annotated[Weight, Field(description="lambda_DSA, weight of dynamic structural alignment.")] = 2.0
    hid: Annotated[Weight, Field(description="lambda_Hid, weight of hidden-state alignment.")] = 0.2
    student_layers: Annotated[LayerSelection, Field(description="Key layers of the student.")] = Top(top=3)
    teacher_layers: Annotated[
        list[Layer] | None,
        Field(description="Their teacher layers, ascending; left out, phi(l) = round(l * L_T / L_S)."),
    ] = None
    word_layers: Annotated[
        int | None,
        Field(
            ge=0, le=1_000_000, description="How many of the lowest key layers are at word level; left out, a third."
        ),
    ] = None
    phrases: Annotated[list[Literal["noun", "verb"]], Field(min_length=1, description="What counts as a phrase.")] = [
        "noun",
        "verb",
    ]
    token_weights: Annotated[
        Literal["attention", "uniform"], Field(description="Tokens weigh by eq. 5-7, or all the same.")
    ] = "attention"
    pooling_weights: Annotated[
        Literal["student", "teacher"],
        Field(description="Whose token weights pool the student's spans; teacher needs one tokenizer."),
    ] = "student"
    normalise: Annotated[
        Literal["sample", "batch"],
        Field(description="L_DSA and L_Hid are weighted means within a sample, or over the batch (reference)."),
    ] = "sample"
    hid_reduction: Annotated[
        Literal["sum", "mean"], Field(description="L_Hid over key layers: sum (the paper) or mean (the reference).")
    ] = "sum"
    hid_pairs: Annotated[
        Literal["auto", "token", "word"],
        Field(description="L_Hid pairs tokens or words; auto: tokens if the tokenizers are one."),
    ] = "auto"
    scope: Annotated[
        Literal["text", "response"], Field(description="Spans of the whole text, or of the response only.")
    ] = "text"
    projection: Projection = Projection()

    @model_validator(mode="after")
    def _has_a_term(self) -> "MTAConfig":
        if self.dsa == self.hid == 0:
            raise ValueError("dsa and hid are both 0: the loss would be nothing")
        return self


LOSS = MTAConfig

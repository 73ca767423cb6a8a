"""Span representation alignment."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from schemas.configs.losses.base import Projection, Weight, WeightedLoss
from schemas.layers import Layer


class SRAConfig(WeightedLoss):
    """Span representation alignment, any two tokenizers (arXiv 2605.01205)."""

    loss: Literal["sra"] = "sra"
    weight: Annotated[Weight, Field(description="(1 - alpha) of the paper, where ce has weight alpha.")] = 1.0
    cos: Annotated[Weight, Field(description="Weight of L_cos, cosine distance of projected centres of mass.")] = 1.0
    geo: Annotated[Weight, Field(description="Weight of L_geo, pairwise span geometry.")] = 1.0
    span_kd: Annotated[
        Weight, Field(description="Weight of L_span-KD, KL of span logits over the shared vocabulary.")
    ] = 1.0
    temperature: Annotated[float, Field(gt=0, le=1e6, description="tau of L_span-KD.")] = 2.0
    spans: Annotated[
        Literal["aligned", "word", "phrase"],
        Field(description="The finest spans both tokenizers agree on (the paper), words, or noun and verb phrases."),
    ] = "aligned"
    teacher_layer: Annotated[Layer, Field(description="Teacher layer pooled by L_cos and L_geo.")] = "last"
    student_layer: Annotated[Layer, Field(description="Student layer pooled by L_cos and L_geo.")] = "last"
    pooling: Annotated[
        Literal["mass", "mean"], Field(description="Centre of mass, or the plain mean of a span's tokens (no WSP).")
    ] = "mass"
    span_weights: Annotated[
        Literal["mass", "equal"], Field(description="Spans weigh by their teacher mass, or all the same (no WSL).")
    ] = "mass"
    mass_exponent: Annotated[
        float, Field(ge=0, le=1e6, description="p of m^p / sum m^p; 0 equals `span_weights: equal`.")
    ] = 1.0
    ignore_first: Annotated[
        int,
        Field(
            ge=0,
            le=1_000_000,
            description="So many leading tokens get no mass on either side: attention sinks sit there.",
        ),
    ] = 0
    max_spans: Annotated[int, Field(ge=2, le=1_000_000, description="More spans than this are merged uniformly.")] = (
        1024
    )
    span_kd_reduction: Annotated[
        Literal["sum", "mean"], Field(description="L_span-KD sums a sample's spans (the reference) or averages them.")
    ] = "sum"
    projection: Projection = Projection()

    @model_validator(mode="after")
    def _has_a_term(self) -> "SRAConfig":
        if self.cos == self.geo == self.span_kd == 0:
            raise ValueError("cos, geo and span_kd are all 0: the loss would be nothing")
        return self


LOSS = SRAConfig

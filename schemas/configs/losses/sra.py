"""Span representation alignment."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from schemas.bounds import Temperature
from schemas.configs.losses.base import Projection, Weight, WeightedLoss
from schemas.layers import Layer


class SRAConfig(WeightedLoss):
    """Span representation alignment, any two tokenizers (arXiv 2605.01205)."""

    loss: Literal["sra"] = "sra"
    weight: Weight = 1.0
    """(1 - alpha) of the paper, where ce has weight alpha."""
    cos: Weight = 1.0
    """Weight of L_cos, cosine distance of projected centres of mass."""
    geo: Weight = 1.0
    """Weight of L_geo, pairwise span geometry."""
    span_kd: Weight = 1.0
    """Weight of L_span-KD, KL of span logits over the shared vocabulary."""
    temperature: Temperature = 2.0
    """tau of L_span-KD."""
    spans: Literal["aligned", "word", "phrase"] = "aligned"
    """The finest spans both tokenizers agree on (the paper), words, or noun and verb phrases."""
    teacher_layer: Layer = "last"
    """Teacher layer pooled by L_cos and L_geo."""
    student_layer: Layer = "last"
    """Student layer pooled by L_cos and L_geo."""
    cos_layers: Annotated[list[tuple[Layer, Layer]], Field(min_length=1, max_length=1_000)] | None = None
    """Pairs [student layer, teacher layer] over which L_cos is a mean, each with masses, weights and a projection of
    its own (reference: sonho4ng/SRAv4 @ d74a664, llm_train.py); left out, student_layer and teacher_layer alone."""
    pooling: Literal["mass", "mean"] = "mass"
    """Centre of mass, or the plain mean of a span's tokens (no WSP)."""
    span_weights: Literal["mass", "equal"] = "mass"
    """Spans weigh by their teacher mass, or all the same (no WSL)."""
    mass_exponent: Annotated[float, Field(ge=0, le=1e6)] = 1.0
    """p of m^p / sum m^p; 0 equals `span_weights: equal`."""
    ignore_first: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """How many leading tokens get no mass on either side: attention sinks sit there."""
    max_spans: Annotated[int, Field(ge=2, le=1_000_000)] = 1024
    """More spans than this are merged uniformly, each target's among themselves."""
    span_kd_reduction: Literal["sum", "mean"] = "sum"
    """L_span-KD sums a sample's spans (reference: sonho4ng/SRAv4 @ d74a664, llm_train.py) or averages them."""
    mass_floor: Annotated[float, Field(ge=0, le=1)] = 0.0
    """A centre is sum w h / max(m, floor); 0 is the paper, 1e-5 the reference (sonho4ng/SRAv4 @ d74a664, utils.py)."""
    projection: Projection = Projection()

    @model_validator(mode="after")
    def _has_a_term(self) -> "SRAConfig":
        if self.cos == self.geo == self.span_kd == 0:
            raise ValueError("cos, geo and span_kd are all 0: the loss would be nothing")
        return self


LOSS = SRAConfig

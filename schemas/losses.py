"""What an objective is made of: a list of weighted losses, each with the knobs its paper names."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from schemas.base import Strict
from schemas.layers import Layer, LayerSelection, Top

Weight = Annotated[float, Field(ge=0)]


class Projection(Strict):
    """P in R^{d_S x d_T}: learned, without bias or weight decay, at a rate of its own (SRA, reference code)."""

    init: Annotated[Literal["orthogonal", "xavier"], Field(description="How the projection starts.")] = "orthogonal"
    lr: Annotated[float, Field(gt=0, description="Its peak learning rate; it follows the student's schedule.")] = 5e-4


class CrossEntropyConfig(Strict):
    """Next-token cross-entropy on the response, a mean over its tokens."""

    loss: Literal["ce"] = "ce"
    weight: Annotated[Weight, Field(description="Factor of this loss in the objective.")] = 1.0


class KDConfig(Strict):
    """Forward KL(teacher || student) on exact teacher logits, times tau^2, a mean over response tokens."""

    loss: Literal["kd"] = "kd"
    weight: Annotated[Weight, Field(description="Factor of this loss in the objective.")] = 1.0
    temperature: Annotated[float, Field(gt=0, description="tau; the loss is multiplied by tau^2.")] = 1.0


class SRAConfig(Strict):
    """Span representation alignment, any two tokenizers (arXiv 2605.01205)."""

    loss: Literal["sra"] = "sra"
    weight: Annotated[Weight, Field(description="(1 - alpha) of the paper, where ce has weight alpha.")] = 1.0
    cos: Annotated[Weight, Field(description="Weight of L_cos, cosine distance of projected centres of mass.")] = 1.0
    geo: Annotated[Weight, Field(description="Weight of L_geo, pairwise span geometry.")] = 1.0
    span_kd: Annotated[
        Weight, Field(description="Weight of L_span-KD, KL of span logits over the shared vocabulary.")
    ] = 1.0
    temperature: Annotated[float, Field(gt=0, description="tau of L_span-KD.")] = 2.0
    teacher_layer: Annotated[Layer, Field(description="Teacher layer pooled by L_cos and L_geo.")] = "last"
    student_layer: Annotated[Layer, Field(description="Student layer pooled by L_cos and L_geo.")] = "last"
    pooling: Annotated[
        Literal["mass", "mean"], Field(description="Centre of mass, or the plain mean of a span's tokens (no WSP).")
    ] = "mass"
    span_weights: Annotated[
        Literal["mass", "equal"], Field(description="Spans weigh by their teacher mass, or all the same (no WSL).")
    ] = "mass"
    mass_exponent: Annotated[float, Field(ge=0, description="p of m^p / sum m^p; 0 equals `span_weights: equal`.")] = (
        1.0
    )
    ignore_first: Annotated[
        int, Field(ge=0, description="So many leading tokens get no mass on either side: attention sinks sit there.")
    ] = 0
    max_spans: Annotated[int, Field(ge=2, description="More spans than this are merged uniformly.")] = 1024
    span_kd_reduction: Annotated[
        Literal["sum", "mean"], Field(description="L_span-KD sums a sample's spans (the reference) or averages them.")
    ] = "sum"
    projection: Projection = Projection()

    @model_validator(mode="after")
    def _has_a_term(self) -> "SRAConfig":
        if self.cos == self.geo == self.span_kd == 0:
            raise ValueError("cos, geo and span_kd are all 0: the loss would be nothing")
        return self


class MTAConfig(Strict):
    """Multi-granular trajectory alignment over words and phrases (arXiv 2605.01374); any two tokenizers."""

    loss: Literal["mta"] = "mta"
    weight: Annotated[Weight, Field(description="Factor of this loss in the objective.")] = 1.0
    dsa: Annotated[Weight, Field(description="lambda_DSA, weight of dynamic structural alignment.")] = 2.0
    hid: Annotated[Weight, Field(description="lambda_Hid, weight of hidden-state alignment.")] = 0.2
    student_layers: Annotated[LayerSelection, Field(description="Key layers of the student.")] = Top(top=3)
    teacher_layers: Annotated[
        list[Layer] | None,
        Field(description="Their teacher layers, ascending; left out, phi(l) = round(l * L_T / L_S)."),
    ] = None
    word_layers: Annotated[
        int | None, Field(ge=0, description="How many of the lowest key layers are at word level; left out, a third.")
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


LossConfig = Annotated[CrossEntropyConfig | KDConfig | SRAConfig | MTAConfig, Field(discriminator="loss")]

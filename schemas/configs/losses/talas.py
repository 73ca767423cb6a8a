"""Teacher-anchored layer alignment of sentence embeddings."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from schemas.bounds import Temperature
from schemas.configs.losses.base import Projection, StudentKind, Weight, WeightedLoss


class TALASConfig(WeightedLoss):
    """Teacher-anchored layer alignment of an encoder's sentence embeddings, any two tokenizers (arXiv 2606.21851)."""

    student: ClassVar[StudentKind] = "encoder"

    loss: Literal["talas"] = "talas"
    contrastive: Weight = 0.001
    """lambda_1, weight of InfoNCE between two dropout views; 0 saves a forward pass."""
    tamd: Weight = 0.75
    """lambda_2, weight of L_TAMD, cosine distance to the teacher's embedding."""
    lasd: Weight = 1.0
    """lambda_3, weight of L_LASD, the change of in-batch similarity between layers."""
    anchored_layers: Annotated[int, Field(ge=1, le=1_000_000)] = 2
    """K: how many layers, counted down from the last, are held against the teacher."""
    temperature: Temperature = 0.1
    """Of InfoNCE."""
    lasd_reduction: Literal["sum", "mean"] = "sum"
    """A matrix of differences counts by its sum (the paper) or its mean entry (reference: sonho4ng/Teacher-Anchor-KD @
    1cd570f, src/loss.py)."""
    lasd_guide: Literal["detached", "trained"] = "detached"
    """The upper layer of a pair guides and gets no gradient (the paper), or learns too (reference:
    sonho4ng/Teacher-Anchor-KD @ 1cd570f, teacher_anchor_kd.py)."""
    lasd_embeddings: bool = True
    """Layer 0, the embeddings, is the lowest of the layers that L_LASD compares."""
    projection: Projection = Projection()

    @model_validator(mode="after")
    def _has_a_term(self) -> "TALASConfig":
        if self.contrastive == self.tamd == self.lasd == 0:
            raise ValueError("contrastive, tamd and lasd are all 0: the loss would be nothing")
        return self


LOSS = TALASConfig

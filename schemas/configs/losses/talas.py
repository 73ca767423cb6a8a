"""Teacher-anchored layer alignment of sentence embeddings."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from schemas.configs.losses.base import Projection, StudentKind, Weight, WeightedLoss


class TALASConfig(WeightedLoss):
    """Teacher-anchored layer alignment of an encoder's sentence embeddings, any two tokenizers (arXiv 2606.21851)."""

    student: ClassVar[StudentKind] = "encoder"

    loss: Literal["talas"] = "talas"
    contrastive: Annotated[
        Weight, Field(description="lambda_1, weight of InfoNCE between two dropout views; 0 saves a forward pass.")
    ] = 0.001
    tamd: Annotated[
        Weight, Field(description="lambda_2, weight of L_TAMD, cosine distance to the teacher's embedding.")
    ] = 0.75
    lasd: Annotated[
        Weight, Field(description="lambda_3, weight of L_LASD, the change of in-batch similarity between layers.")
    ] = 1.0
    anchored_layers: Annotated[
        int,
        Field(
            ge=1,
            le=1_000_000,
            description="K: so many layers, counted down from the last, are held against the teacher.",
        ),
    ] = 2
    temperature: Annotated[float, Field(gt=0, le=1e6, description="Of InfoNCE.")] = 0.1
    lasd_reduction: Annotated[
        Literal["sum", "mean"],
        Field(description="A matrix of differences counts by its sum (the paper) or its mean entry (the reference)."),
    ] = "sum"
    lasd_guide: Annotated[
        Literal["detached", "trained"],
        Field(
            description="The upper layer of a pair guides and gets no gradient (the paper), or learns too (reference)."
        ),
    ] = "detached"
    lasd_embeddings: Annotated[
        bool, Field(description="Layer 0, the embeddings, is the lowest of the layers that L_LASD compares.")
    ] = True
    projection: Projection = Projection()

    @model_validator(mode="after")
    def _has_a_term(self) -> "TALASConfig":
        if self.contrastive == self.tamd == self.lasd == 0:
            raise ValueError("contrastive, tamd and lasd are all 0: the loss would be nothing")
        return self


LOSS = TALASConfig

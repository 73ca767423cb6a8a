"""What every loss may be told: how much it weighs, over which texts it runs, and how a projection is learned."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from schemas.strict import Strict

Weight = Annotated[float, Field(ge=0, le=1e6)]
Texts = Literal["corpus", "student"]
StudentKind = Literal["causal", "encoder"]


class WeightedLoss(Strict):
    """One item of the objective."""

    name: ClassVar[str]  # what `loss` says
    module: ClassVar[str | None] = None  # where its `LOSS` is; left out, trainer.objectives.NAME
    student: ClassVar[StudentKind] = "causal"  # the kind of student that can learn from it

    weight: Weight = 1.0
    """Factor of this loss in the objective."""
    texts: Texts = "corpus"
    """Over the texts of `cache`, or over those of `student_cache`, which the student wrote."""

    @classmethod
    def __pydantic_init_subclass__(cls, **arguments: Any) -> None:
        if "loss" in cls.model_fields:
            cls.name = cls.model_fields["loss"].default


class Projection(Strict):
    """P in R^{d_S x d_T}: learned, without bias or weight decay, at a rate of its own (SRA, reference code)."""

    init: Literal["orthogonal", "xavier"] = "orthogonal"
    """How the projection starts."""
    lr: Annotated[float, Field(gt=0, le=1e6)] = 5e-4
    """Its peak learning rate; it follows the student's schedule."""

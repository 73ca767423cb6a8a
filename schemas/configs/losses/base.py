"""The settings that every loss has: how much it weighs, over which texts it runs, and how a projection is learned."""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from schemas.bounds import LearningRate, zero_or
from schemas.strict import Strict

Weight = Annotated[float, Field(ge=0, le=1e6), zero_or(1e-9)]
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


def distinct_names(names: Sequence[str]) -> list[str]:
    """The losses of an objective as metrics and settings name them: its second `sra` is `sra2`."""
    return [
        name if names[:i].count(name) == 0 else f"{name}{names[:i].count(name) + 1}" for i, name in enumerate(names)
    ]


class Projection(Strict):
    """P in R^{d_S x d_T}: learned, at a rate of its own and by default without bias or weight decay (SRA)."""

    init: Literal["orthogonal", "xavier", "linear", "small"] = "orthogonal"
    """How the projection starts. linear: as torch starts a linear layer (reference: wind123mountain/MTA @ 37298fc).
    small: normal, with a standard deviation of 0.001 (reference: sonho4ng/Teacher-Anchor-KD @ 1cd570f)."""
    bias: bool = False
    """It has a bias (reference: wind123mountain/MTA @ 37298fc)."""
    lr: LearningRate = 5e-4
    """Its peak learning rate; it follows the student's schedule."""
    weight_decay: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    """Its weight decay; 0.01 (reference: wind123mountain/MTA @ 37298fc, sonho4ng/Teacher-Anchor-KD @ 1cd570f)."""

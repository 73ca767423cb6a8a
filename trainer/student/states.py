"""What a loss asks of the student, and one forward pass as the answers.

Shapes: B samples, S student tokens, V vocabulary, d_S wide.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from torch import Tensor, nn

from trainer.data.request import answer_of
from trainer.student.logits import Logits

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class StudentRequest(Generic[T_co]):
    """Something of the student that a loss reads: frozen, hashable, equal to any other that asks for the same."""


@dataclass(frozen=True)
class StudentLogits(StudentRequest[Logits]):
    """[B, S, V] of a causal student, row by row, in the dtype that it computes in."""


@dataclass(frozen=True)
class StudentHidden(StudentRequest[Tensor]):
    """[B, S, d_S] of one layer of a causal student: 0 the embeddings, L after the final norm."""

    layer: int


@dataclass(frozen=True)
class StudentMass(StudentRequest[Tensor]):
    """[B, S], the token masses of one layer of a causal student: 1 in sum over a sample, without gradient."""

    layer: int


@dataclass(frozen=True)
class StudentPooled(StudentRequest[Tensor]):
    """[B, d_S], one layer of an encoder student, pooled; layers count as in `StudentHidden`."""

    layer: int


@dataclass(frozen=True)
class SecondView(StudentRequest[Tensor]):
    """[B, d_S], the last layer of an encoder student, pooled in a second pass under other dropout."""


@dataclass(frozen=True)
class StudentEmbedding(StudentRequest[nn.Embedding]):
    """The module that looks the student's own tokens up."""


@dataclass(frozen=True)
class StudentUnembedding(StudentRequest[nn.Linear]):
    """The module that makes logits of a causal student's final states, before any scale or soft-cap."""


@dataclass(frozen=True)
class StudentStates:
    """One forward pass of the student. `states[request]` is the answer to what was asked for before the pass."""

    answers: Mapping[StudentRequest[Any], Any]

    def __getitem__(self, request: StudentRequest[T]) -> T:
        """Raises RunError if `request` was not asked for."""
        answer: T = answer_of(self.answers, request)
        return answer


def layers_of(
    kind: type[StudentHidden] | type[StudentMass] | type[StudentPooled], requests: Collection[StudentRequest[Any]]
) -> frozenset[int]:
    """The layers that requests of one kind name."""
    return frozenset(request.layer for request in requests if isinstance(request, kind))

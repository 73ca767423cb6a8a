"""The interface of a loss: what it asks for, the parameters it learns, and its terms as sums over things to count."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from schemas.configs.losses.base import WeightedLoss
from trainer.data.batch import Batch, Divisor
from trainer.data.request import BatchRequest
from trainer.objectives.kernels.carried import CarriedCrossEntropy
from trainer.objectives.kernels.chunks import Chunks
from trainer.student.states import StudentRequest, StudentStates

Request = BatchRequest[Any] | StudentRequest[Any]


@dataclass(frozen=True)
class Term:
    """One term of a loss over one batch, unweighted. The objective adds weight * total / count(divisor of the loss),
    where the count is that of the whole optimiser step: accumulated batches weigh as one large batch would."""

    total: Tensor  # scalar, a sum
    weight: float = 1.0


class Loss(nn.Module, ABC):
    """A loss of the objective, built of its config and a LossContext. The constructor sets `divisor` and `requests`,
    and raises RunError for what the cache lacks."""

    name: str
    weight: float
    divisor: Divisor  # each term is a sum, which the objective divides by the count of these
    requests: frozenset[Request]  # what `forward` reads, of the batch and of the student
    narrower: ClassVar[str] = ""  # the way to make it read states of targets and the tokens before them alone, if any
    chunks: Chunks | None = None  # of its passes over logits; None: what suits the device

    def __init__(self, config: WeightedLoss):
        super().__init__()
        self.name, self.weight = config.name, config.weight

    @abstractmethod
    def forward(self, student: StudentStates, batch: Batch) -> dict[str, Term]:
        """The terms by name, e.g. {"cos": ..., "geo": ...}; each total is differentiable, and 0 over nothing."""

    def compares_samples(self) -> str | None:
        """Which of its terms compares the samples of a forward pass with each other, if any: its value over a batch is
        not the sum of those over shares of the batch."""
        return None

    def parameter_groups(self) -> list[dict[str, object]]:
        """Groups for the optimiser of this loss's own parameters: `params`, `lr`, `weight_decay`."""
        return []


class Carrier(Loss):
    """A loss that may pass over logits row by row; where it does, it can take cross-entropy along."""

    carries: bool  # whether there is such a pass

    @abstractmethod
    def forward(
        self, student: StudentStates, batch: Batch, carried: CarriedCrossEntropy | None = None
    ) -> dict[str, Term]:
        """As any loss; it hands `carried` on to its pass over logits, which fills in `carried.total`."""

"""The interface of a loss: what it needs, the parameters it learns, and its terms as sums with a countable unit."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from schemas.cache.manifest import CacheManifest
from schemas.configs.losses import WeightedLoss
from schemas.models.logits import LogitTransform
from schemas.models.teacher_head import TeacherHead
from trainer.alignment.vocabulary import SharedVocabulary
from trainer.data.batch import Batch, Needs, StudentStates, Unit
from trainer.objectives.kernels.carried import CarriedCrossEntropy


@dataclass(frozen=True)
class Term:
    """One term of a loss over one batch, unweighted. The objective adds weight * total / count(unit), where the count
    is that of the whole optimiser step: accumulated batches weigh as one large batch would."""

    total: Tensor  # scalar, a sum
    unit: Unit
    weight: float = 1.0


@dataclass(frozen=True)
class Pair:
    """What a loss may know of the two models when it is built."""

    manifest: CacheManifest
    head: TeacherHead | None  # None for an encoder teacher
    student_layers: int  # L_S
    student_width: int  # d_S
    vocabulary: SharedVocabulary
    same_tokenizer: bool
    embedding_Vd: Tensor | None = None  # the teacher's input embeddings, where the cache keeps them
    tokenizers: tuple[PreTrainedTokenizerBase, PreTrainedTokenizerBase] | None = None  # the student's, the teacher's
    student_logits: LogitTransform = LogitTransform()  # noqa: RUF009 - frozen


class Loss(nn.Module):
    """A loss of the objective. `needs` is set by the constructor, which raises RunError for what the cache lacks."""

    name: str
    weight: float
    needs: Needs

    def __init__(self, config: WeightedLoss):
        super().__init__()
        self.weight = config.weight

    def forward(self, student: StudentStates, batch: Batch) -> dict[str, Term]:
        """The terms by name, e.g. {"cos": ..., "geo": ...}; each total is differentiable, and 0 over nothing."""
        raise NotImplementedError

    def parameter_groups(self) -> list[dict[str, object]]:
        """AdamW groups of this loss's own parameters: `params`, `lr`, `weight_decay`."""
        return []


class Carrier(Loss):
    """A loss that may pass over all logits in `forward_kl`; where it does, it can take cross-entropy along."""

    def forward(
        self, student: StudentStates, batch: Batch, carried: CarriedCrossEntropy | None = None
    ) -> dict[str, Term]:
        """As any loss; the gradient of `carried` is in the term that `forward_kl` makes."""
        raise NotImplementedError

    def kl_factor(self, counts: Mapping[Unit, int]) -> float:
        """What the objective multiplies the result of `forward_kl` with; 0 if there is no such pass."""
        raise NotImplementedError

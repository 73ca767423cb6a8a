"""How encoders rank sentence pairs; see `trainer.evaluation.sentence_similarity`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainer.evaluation.metric import Measurement, Metric

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

    from trainer.evaluation.sentence_pairs import SentencePair


@dataclass(frozen=True)
class Spearman(Measurement):
    """How a model's similarities rank with people's."""

    spearman: float  # times 100
    pairs: int

    def metrics(self) -> dict[str, float]:
        """Spearman's correlation times 100."""
        return {"spearman": self.spearman}

    def cells(self) -> dict[str, str]:
        """The correlation, and over how many pairs."""
        return {"Spearman × 100": f"{self.spearman:.2f}", "pairs": f"{self.pairs:,}"}

    def __str__(self) -> str:
        return f"{self.spearman:.2f} Spearman × 100"


def _measure(
    model: Any,
    tokenizer: "PreTrainedTokenizerBase",
    material: "Sequence[SentencePair]",
    max_tokens: int,
    device: "torch.device",
) -> Spearman:
    from trainer.evaluation.sentence_similarity import evaluate_sentences

    return evaluate_sentences(model, tokenizer, material, device)


METRIC = Metric(
    name="spearman",
    student="encoder",
    material="pairs",
    title="Held-out sentence pairs, Spearman × 100",
    heading="Spearman",
    decimals=2,
    less_is_better=False,
    measurement=Spearman,
    measure=_measure,
    order=0,
)

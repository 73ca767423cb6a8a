"""How unsure a student is: the mean entropy of its next token over held-out texts. Imports torch when it measures."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainer.evaluation.metric import Measurement, Metric

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Unsure(Measurement):
    """In nats per token."""

    unsure: float
    tokens: int

    def metrics(self) -> dict[str, float]:
        return {"unsure": self.unsure}

    def cells(self) -> dict[str, str]:
        return {"nats of entropy": f"{self.unsure:.3f}", "tokens": str(self.tokens)}

    def __str__(self) -> str:
        return f"{self.unsure:.3f} nats of entropy"


def measure(
    model: Any, tokenizer: "PreTrainedTokenizerBase", material: Sequence[str], max_tokens: int, device: "torch.device"
) -> Unsure:
    import torch

    nats, tokens = 0.0, 0
    with torch.inference_mode():
        for text in material:
            ids = tokenizer(text)["input_ids"][:max_tokens]
            logp_TV = model(input_ids=torch.tensor([ids], device=device)).logits[0].double().log_softmax(-1)
            nats -= float((logp_TV.exp() * logp_TV).sum())
            tokens += len(ids)
    return Unsure(nats / tokens, tokens)


METRIC = Metric(
    name="unsure",
    student="causal",
    material="texts",
    title="Entropy of the next token",
    heading="entropy",
    decimals=3,
    less_is_better=True,
    measurement=Unsure,
    measure=measure,
)

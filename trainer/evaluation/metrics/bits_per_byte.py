"""Held-out bits per byte of causal models; see `trainer.evaluation.bits_per_byte` for what is counted."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainer.evaluation.metric import Measurement, Metric

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class BitsPerByte(Measurement):
    """The figures of a model on held-out texts."""

    nats_per_token: float  # comparable for equal tokenizers only
    bits_per_byte: float
    tokens: int  # scored
    bytes: int  # scored
    texts: int
    unscored_bytes: int  # of first tokens without a BOS before them
    unknown_tokens: int  # scored all the same; above 0, bits_per_byte flatters

    def metrics(self) -> dict[str, float]:
        """Bits per byte, and nats per token beside it."""
        return {"bits_per_byte": self.bits_per_byte, "nats_per_token": self.nats_per_token}

    def cells(self) -> dict[str, str]:
        """Both figures and what they were counted over."""
        return {
            "bits/byte": f"{self.bits_per_byte:.4f}",
            "nats/token": f"{self.nats_per_token:.4f}",
            "tokens": f"{self.tokens:,}",
            "bytes": f"{self.bytes:,}",
            "unscored": f"{self.unscored_bytes:,}",
            "unknown": f"{self.unknown_tokens:,}",
        }

    def caution(self) -> str:
        """What is unscored, and that unknown tokens flatter, where there are any."""
        lines = []
        if self.unscored_bytes:
            lines.append(
                "Unscored are bytes of first tokens: without a BOS, nothing stands before them to predict them."
            )
        if self.unknown_tokens:
            lines.append("A model with unknown tokens has less to predict: its bits per byte flatter it.")
        return "\n".join(lines)

    def __str__(self) -> str:
        return f"{self.bits_per_byte:.4f} bits/byte, {self.nats_per_token:.4f} nats/token"


def _measure(
    model: Any, tokenizer: "PreTrainedTokenizerBase", material: Sequence[str], max_tokens: int, device: "torch.device"
) -> BitsPerByte:
    from trainer.evaluation.bits_per_byte import evaluate

    return evaluate(model, tokenizer, material, max_tokens, device)


METRIC = Metric(
    name="bits_per_byte",
    student="causal",
    material="texts",
    title="Held-out bits per byte",
    heading="bits/byte",
    decimals=4,
    less_is_better=True,
    measurement=BitsPerByte,
    measure=_measure,
    beside=("nats_per_token", "nats/token"),
    order=0,
)

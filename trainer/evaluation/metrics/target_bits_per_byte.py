"""Held-out bits per byte of what assistants say; see `trainer.evaluation.target_bits_per_byte` for what is counted."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from trainer.evaluation.metric import Measurement, Metric

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

    from trainer.evaluation.held_out_conversations import HeldOutConversations


@dataclass(frozen=True)
class TargetBitsPerByte(Measurement):
    """The figures of a model on the answers of held-out conversations."""

    nats_per_token: float  # comparable for equal tokenizers only
    target_bits_per_byte: float
    tokens: int  # scored
    bytes: int  # scored
    conversations: int
    refused: int  # conversations, by their shape or by the model's chat template
    unscored_bytes: int  # of answers: of tokens that end in the template's words
    unknown_tokens: int  # scored all the same; above 0, bits per byte flatter

    @property
    def shown_bytes(self) -> int:
        """Of the answers that the model was shown."""
        return self.bytes + self.unscored_bytes

    def metrics(self) -> dict[str, float]:
        """Bits per byte, and nats per token beside it."""
        return {"target_bits_per_byte": self.target_bits_per_byte, "nats_per_token": self.nats_per_token}

    def cells(self) -> dict[str, str]:
        """Both figures and what they were counted over."""
        return {
            "bits/byte": f"{self.target_bits_per_byte:.4f}",
            "nats/token": f"{self.nats_per_token:.4f}",
            "tokens": f"{self.tokens:,}",
            "bytes": f"{self.bytes:,}",
            "refused": f"{self.refused:,}",
            "unscored": f"{self.unscored_bytes:,}",
            "unknown": f"{self.unknown_tokens:,}",
        }

    def caution(self) -> str:
        """What is refused or unscored, and that unknown tokens flatter, where there are any."""
        lines = []
        if self.refused:
            lines.append(
                "Refused are conversations that begin with an answer, or that a model's chat template does not take."
            )
        if self.unscored_bytes:
            lines.append("Unscored are bytes of answers whose tokens reach into the words of the chat template.")
        if self.unknown_tokens:
            lines.append("A model with unknown tokens has less to predict: its bits per byte flatter it.")
        return "\n".join(lines)

    def __str__(self) -> str:
        return f"{self.target_bits_per_byte:.4f} bits/byte of targets, {self.nats_per_token:.4f} nats/token"


def _measure(
    model: Any, tokenizer: "PreTrainedTokenizerBase", material: Sequence[Any], max_tokens: int, device: "torch.device"
) -> TargetBitsPerByte:
    from trainer.evaluation.target_bits_per_byte import evaluate_conversations

    return evaluate_conversations(model, tokenizer, cast("HeldOutConversations", material), max_tokens, device)


METRIC = Metric(
    name="target_bits_per_byte",
    student="causal",
    material="conversations",
    title="Held-out bits per byte of conversations' targets",
    heading="bits/byte",
    decimals=4,
    less_is_better=True,
    measurement=TargetBitsPerByte,
    measure=_measure,
    beside=("nats_per_token", "nats/token"),
    order=0,
)

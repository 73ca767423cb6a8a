"""The material that a run is measured on while it trains, read once, and the metric that goes with it."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.configs.training import EvaluationConfig, StudentConfig
from schemas.errors import RunError
from schemas.strict import canonical_json
from trainer.evaluation.held_out_conversations import HeldOutConversations, read_conversations
from trainer.evaluation.held_out_texts import read_texts
from trainer.evaluation.metric import Material, Measurement, find_metric, measure
from trainer.evaluation.sentence_pairs import read_pairs

if TYPE_CHECKING:
    import torch


class HeldOut:
    """The material of `config`, and its metric."""

    def __init__(self, config: EvaluationConfig, student: StudentConfig):
        """Raises ConfigError: no such metric, or not one for this student; CorpusError: unreadable or empty."""
        kind: Material = "pairs" if config.pairs else "conversations" if config.conversations else "texts"
        self.metric = find_metric(config.metric, kind, student.kind)
        self.material = _read(config)
        self.hash = hash_material(self.material)
        self.max_tokens = student.max_tokens

    def __call__(self, model: Any, tokenizer: Any, device: "torch.device") -> Measurement:
        """Measure the student, which is left in the mode it came in. Raises RunError if the figure is not finite."""
        found = measure(self.metric, model, tokenizer, self.material, self.max_tokens, device)
        figures = found.metrics()
        if not math.isfinite(figures.get(self.metric.name, math.nan)):
            raise RunError(
                f"{self.metric.name} of what is held out is not a finite number ({figures}); lower the learning "
                "rate, or look at what is held out"
            )
        return found


def hash_material(material: Sequence[Any]) -> str:
    """Hex SHA-256 of texts, conversations or pairs as they were read: neither their file's name nor its format counts.
    Of conversations, what of them is scored counts too."""
    digest = hashlib.sha256(material.choice.encode() if isinstance(material, HeldOutConversations) else b"")
    for item in material:
        digest.update(canonical_json(item if isinstance(item, str) else asdict(item)).encode() + b"\n")
    return digest.hexdigest()


def _read(config: EvaluationConfig) -> Sequence[Any]:
    if config.texts is not None and config.conversations is not None:
        return read_conversations(config.texts, config.conversations, config.limit)
    return read_material(config.texts, config.pairs, config.field, config.limit)


def read_material(texts: Path | None, pairs: Path | None, field: str, limit: int | None) -> Sequence[Any]:
    """The first `limit` texts or `SentencePair`s of the file that is given. Raises CorpusError with file and line."""
    if pairs is not None:
        return read_pairs(pairs, limit)
    return read_texts(texts, field, limit) if texts is not None else ()

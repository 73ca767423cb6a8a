"""A small training: a student of two layers, 16 wide, and texts to measure it by."""

from pathlib import Path
from typing import Any

from tests.caches import write_corpus

ARCHITECTURE = {
    "model_type": "llama",
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}


def small_student(**architecture: Any) -> dict[str, Any]:
    """With the teacher's tokenizer; `architecture` beside or in the place of the usual."""
    return {"architecture": ARCHITECTURE | architecture, "tokenizer": "teacher", "max_tokens": 64}


def small_training(made: Path, **changes: Any) -> dict[str, Any]:
    """What a config says that learns from `made`/cache, on one thread, with dropout, so that random numbers matter."""
    said: dict[str, Any] = {
        "cache": str(made / "cache"),
        "student": small_student(attention_dropout=0.1),
        "objective": [{"loss": "ce"}, {"loss": "sra"}],
        "optimizer": {"lr": 1e-2},
        "batch_size": 4,
        "threads": 1,
        "checkpoint_every": 2,
        "log_every": 1,
    }
    return said | changes


def write_held_out(folder: Path) -> Path:
    """Two texts that no cache holds."""
    texts = ["The old miller carried three silver coins.", "A small cat went home."]
    return write_corpus(folder / "held_out.jsonl", texts)

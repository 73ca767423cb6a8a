"""The least that a config says."""

from typing import Any

TRAINING: dict[str, Any] = {
    "cache": "c",
    "output": "o",
    "steps": 1,
    "student": {"architecture": {"model_type": "llama"}, "tokenizer": "teacher"},
}

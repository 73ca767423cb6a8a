"""Small sweeps: their files, over a cache of tests.caches."""

from pathlib import Path
from typing import Any

import yaml

from tests.caches import small_cache, write_corpus


def make_material(folder: Path) -> Path:
    """A cache and held-out texts in `folder`, which is returned."""
    small_cache(folder)
    write_corpus(folder / "held_out.jsonl", ["The old miller carried three silver coins.", "A small cat went home."])
    return folder


def base(made: Path, **changes: Any) -> dict[str, Any]:
    """A training of two layers, 16 wide, with dropout, so that random numbers matter."""
    architecture = {
        "model_type": "llama",
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "attention_dropout": 0.1,
    }
    config: dict[str, Any] = {
        "cache": str(made / "cache"),
        "student": {"architecture": architecture, "tokenizer": "teacher", "max_tokens": 64},
        "objective": [{"loss": "ce"}, {"loss": "sra"}],
        "optimizer": {"lr": 1e-2},
        "steps": 4,
        "batch_size": 4,
        "threads": 1,
        "checkpoint_every": 2,
        "log_every": 1,
        "evaluation": {"texts": str(made / "held_out.jsonl"), "every": 2},
    }
    return config | changes


def write_sweep(path: Path, config: dict[str, Any]) -> Path:
    """The file of a sweep."""
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return path

"""A teacher, two students and a corpus of a size that a GPU notices, made on the spot: no download, no Ray."""

from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from schemas.configs.extraction import ExtractionConfig
from schemas.configs.training import TrainingConfig
from tests.caches import extraction, write_corpus
from tests.tiny import TEXTS, tiny_tokenizer

# About the size of SmolLM2-135M: 12 of its 30 layers, and a vocabulary of 49,152.
TEACHER = {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 12, "num_attention_heads": 9}
STUDENT = {"hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 6, "num_attention_heads": 6}
VOCABULARY = 49_152
TOKENS = 256


def make_corpus(folder: Path, samples: int) -> Path:
    """Texts of a few hundred tokens each, from sentences of the tests."""
    texts = [" ".join(TEXTS[(7 * number + place) % len(TEXTS)] for place in range(8)) for number in range(samples)]
    return write_corpus(folder / "corpus.jsonl", [f"{number}. {text}" for number, text in enumerate(texts)])


def make_teacher(folder: Path) -> Path:
    """A random Llama with many more embeddings than its tokenizer has tokens, as models of that size have."""
    tokenizer = tiny_tokenizer(folder / "teacher", "bytelevel", vocab=400)
    tiny_tokenizer(folder / "other", "bpe", vocab=400)
    torch.manual_seed(0)
    sizes = TEACHER | {"num_key_value_heads": 3, "vocab_size": VOCABULARY, "max_position_embeddings": 1024}
    special = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    LlamaForCausalLM(LlamaConfig(**sizes, **special, initializer_range=0.05)).save_pretrained(folder / "teacher")
    tokenizer.save_pretrained(folder / "teacher")
    return folder / "teacher"


def extraction_config(folder: Path, name: str, device: str, **changes: Any) -> ExtractionConfig:
    """Two inner layers, the last, and its masses."""
    states = {"hidden": [6, 8, 10, 12], "mass": [12], "dtype": changes.pop("stored", "float32"), "encoding": "exact"}
    teacher = {"max_tokens": TOKENS, "device": device, **changes}
    return extraction(
        folder / name,
        folder / "teacher",
        folder / "corpus.jsonl",
        teacher=teacher,
        states=states,
        spans={"annotator": "english"},
        batching={"unit_tokens": 16_384, "batch_tokens": 16_384},
        workers={"gpus": 1 if device == "cuda" else 0},
    )


def training_config(folder: Path, output: str, objective: list[dict[str, Any]], **changes: Any) -> TrainingConfig:
    """A student from random weights, with dropout in its attention so that the generators' states matter."""
    architecture = {"model_type": "llama", "vocab_size": VOCABULARY, "max_position_embeddings": 1024, **STUDENT}
    tokenizer = changes.pop("tokenizer", "teacher")
    base = {
        "cache": folder / "cache",
        "output": folder / output,
        "student": {
            "architecture": architecture | {"attention_dropout": changes.pop("dropout", 0.0)},
            "tokenizer": tokenizer,
            "max_tokens": TOKENS,
        },
        "objective": objective,
        "steps": 8,
        "batch_size": 16,
        "log_every": 1,
        "checkpoint_every": 100,
        "min_coverage": 0,
        "min_agreement": 0,
    }
    return TrainingConfig.model_validate(base | changes)

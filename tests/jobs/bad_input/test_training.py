"""What `stillroom train` refuses: one message each, and nothing written."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file, save_file

from tests.jobs.bad_input.breaking import (
    Break,
    Config,
    both,
    edit,
    foreign_output,
    output,
    refuse,
    snapshot,
    student,
    truncate,
)


def drop_weight(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights.pop("model.layers.1.mlp.up_proj.weight")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def cached(change: Callable[[Path], Any]) -> Break:
    return lambda here, config: change(here / "cache") and None


def objective(*losses: Config) -> Break:
    return lambda here, config: config.update(objective=list(losses))


def architecture(**changes: Any) -> Break:
    return lambda here, config: config["student"]["architecture"].update(changes)


def held_out(line: str) -> Break:
    def change(here: Path, config: Config) -> None:
        (here / "held.jsonl").write_text('{"text": "sound"}\n' + line + "\n")
        config["evaluation"] = {"texts": str(here / "held.jsonl")}

    return change


TRAININGS: dict[str, tuple[Break, str]] = {
    "unknown key": (lambda here, config: config.update(step=3), "did you mean `steps`"),
    "unknown loss": (objective({"loss": "kl"}), "available: alm, ce, dskd, fdd, kd"),
    "nothing to minimise": (objective({"loss": "ce", "weight": 0}), "weight 0"),
    "no length": (lambda here, config: config.pop("steps") and None, "exactly one of steps, epochs"),
    "no student": (student(architecture=None), "exactly one of model, architecture"),
    "a cache that is none": (lambda here, config: config.update(cache=str(here / "teacher")), "not a stillroom cache"),
    "a cache of the future": (
        cached(lambda cache: edit(cache / "cache.json", lambda m: m | {"version": 9})),
        "version 9",
    ),
    "an altered manifest": (
        cached(lambda cache: edit(cache / "cache.json", lambda m: m | {"identity": {}})),
        "altered",
    ),
    "an incomplete cache": (cached(lambda cache: (cache / "index.parquet").unlink()), "not complete"),
    "a damaged index": (cached(lambda cache: truncate(cache / "index.parquet")), "reindex"),
    "a missing unembedding": (
        both(cached(lambda cache: (cache / "teacher" / "unembedding.safetensors").unlink()), objective({"loss": "kd"})),
        "unembedding",
    ),
    "a layer that is not cached": (objective({"loss": "sra", "teacher_layer": 1}), "the cache holds"),
    "mta without its layers": (objective({"loss": "mta", "student_layers": [1, 2], "teacher_layers": [0, 1]}), "0, 1"),
    "a student layer that is not there": (objective({"loss": "sra", "student_layer": 5}), "no layer 5"),
    "kd across tokenizers": (
        both(lambda here, config: student(tokenizer=str(here / "bytelevel"))(here, config), objective({"loss": "kd"})),
        "kd pairs tokens",
    ),
    "a tokenizer without end of sequence": (
        lambda here, config: student(tokenizer=str(here / "encoder"))(here, config),
        "append_eos",
    ),
    "a student of no known kind": (architecture(model_type="lama"), "lama"),
    "a student with a typo": (architecture(hiden_size=8), "hiden_size"),
    "a student of a size that is not a number": (architecture(hidden_size="abc"), "hidden_size"),
    "a student whose sizes do not go together": (architecture(model_type="qwen2"), "cannot be run"),
    "a student too small for its tokenizer": (architecture(vocab_size=100), "100 embeddings"),
    "more tokens than positions": (architecture(max_position_embeddings=16), "16 positions"),
    "held-out texts that are not there": (
        lambda here, config: config.update(evaluation={"texts": str(here / "no.jsonl")}),
        "no.jsonl",
    ),
    "held-out texts without the field": (
        lambda here, config: config.update(evaluation={"texts": str(here / "corpus.jsonl"), "field": "story"}),
        "'story'",
    ),
    "held-out texts with half a character": (held_out('{"text": "ab\\ud800"}'), "held.jsonl:2: field 'text' has"),
    "held-out texts nested too deeply": (held_out("[" * 100_000), "held.jsonl:2: nested too deeply"),
    "a GPU that is not there": (lambda here, config: config.update(device="cuda"), "no GPU"),
    "an output below a file": (output("corpus.jsonl/a/run"), "corpus.jsonl is a file"),
    "an output of too long a name": (output("x" * 300), "File name too long"),
    "a foreign output": (foreign_output, "holds no run"),
}


@pytest.mark.parametrize("case", TRAININGS)
def test_training_refuses(
    here: Path, case: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    change, said = TRAININGS[case]
    size = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2}
    config: Config = {
        "cache": str(here / "cache"),
        "output": str(here / "new"),
        "student": {"architecture": {"model_type": "llama", **size}, "tokenizer": "teacher", "max_tokens": 64},
        "objective": [{"loss": "ce"}],
        "steps": 2,
        "device": "cpu",
    }
    change(here, config)
    (here / "train.yaml").write_text(yaml.safe_dump(config))
    before = snapshot(here)
    refuse(["train", str(here / "train.yaml")], said, monkeypatch, capsys)
    assert snapshot(here) == before


def test_weights_that_are_damaged_or_missing_are_refused_before_anything_is_written(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a student's origin; the teacher's weights are read by its workers (tests/pipeline)."""
    config = {
        "cache": str(here / "cache"),
        "output": str(here / "new"),
        "student": {"model": str(here / "teacher"), "max_tokens": 64},
        "steps": 2,
    }
    (here / "train.yaml").write_text(yaml.safe_dump(config))
    drop_weight(here / "teacher")
    refuse(["train", str(here / "train.yaml")], "lacks 1 weights", monkeypatch, capsys)
    truncate(here / "teacher" / "model.safetensors")
    refuse(["train", str(here / "train.yaml")], "cannot load a causal language model", monkeypatch, capsys)
    assert not (here / "new").exists()

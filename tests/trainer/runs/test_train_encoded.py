"""Whole runs from encoded caches: resumed, or with loaders of their own, they are the same bit for bit."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from schemas.configs.training import TrainingConfig
from schemas.errors import CacheError
from tests.caches import encoded_cache
from tests.crash import interrupt
from trainer.runs.metrics import read_metrics
from trainer.runs.train import train

STEPS = 4
LOSSES = ("ce", "kd", "sra", "mta")


@pytest.fixture(scope="module", params=["small", {"codec": "int8"}], ids=["rvq", "int8"])
def cache(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encoded_cache(tmp_path_factory.mktemp("runs"), request.param)


def config(cache: Path, output: Path, **changes: Any) -> TrainingConfig:
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2}
    layers = {"teacher_layers": [1, 3], "student_layers": [1, 3]}
    base: dict[str, Any] = {
        "cache": cache,
        "output": output,
        "student": {"architecture": {"model_type": "llama", **sizes}, "tokenizer": "teacher", "max_tokens": 64},
        "objective": [{"loss": name, **(layers if name == "mta" else {})} for name in LOSSES],
        "steps": STEPS,
        "batch_size": 4,
        "threads": 1,
        "checkpoint_every": 1,
        "log_every": 1,
    }
    return TrainingConfig.model_validate(base | changes)


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "model.safetensors")


def test_resumed_or_read_by_workers_the_student_is_the_same(cache: Path, tmp_path: Path) -> None:
    train(config(cache, tmp_path / "whole"))
    interrupt(config(cache, tmp_path / "cut"), 2)
    train(config(cache, tmp_path / "cut"))
    train(config(cache, tmp_path / "workers", loader_workers=2))
    whole = weights(tmp_path / "whole")
    for other in ("cut", "workers"):
        assert all(torch.equal(tensor, weights(tmp_path / other)[name]) for name, tensor in whole.items())
    lines = [line for line in read_metrics(tmp_path / "whole") if "loss" in line]
    assert len(lines) == STEPS and {"kd/kl", "sra/span_kd", "sra/cos", "mta/dsa"} <= lines[0].keys()


def test_damaged_tables_are_refused_before_anything_is_learnt(tmp_path: Path) -> None:
    cache = encoded_cache(tmp_path)
    tables = cache / "codecs" / "hidden-3.safetensors"
    whole = tables.read_bytes()
    tables.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(CacheError, match=r"hidden-3.safetensors does not have its checksum"):
        train(config(cache, tmp_path / "run"))
    assert not (tmp_path / "run" / "model").exists()

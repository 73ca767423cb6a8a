"""Students in bfloat16 with float32 masters: the same bits after an interruption, near what float32 learns."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from schemas.configs.losses.registry import LOSSES
from schemas.configs.training import TrainingConfig
from schemas.errors import RunError
from tests.caches import small_cache
from tests.crash import interrupt
from tests.tiny import tiny_llama, tiny_tokenizer
from tests.trainings import write_held_out
from trainer.runs.caches import open_caches
from trainer.runs.checkpoint import CheckpointRecord, Start
from trainer.runs.inputs import read_inputs
from trainer.runs.metrics import read_metrics
from trainer.runs.setup import set_up
from trainer.runs.train import train

SIZE = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2}
ARCHITECTURE = {"model_type": "llama", **SIZE}
NEW = Start(None, CheckpointRecord(step=0, fingerprint="f", run="r"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rounded")
    small_cache(folder)
    tiny_llama(folder / "base", tiny_tokenizer(folder / "base", "bytelevel"), hidden=16, layers=3, heads=2)
    write_held_out(folder)
    return folder


def config(made: Path, output: Path, student: dict[str, Any], dtype: str, **changes: Any) -> TrainingConfig:
    given: dict[str, Any] = {
        "cache": made / "cache",
        "output": output,
        "student": {"max_tokens": 64, "dtype": dtype, **student},
        "objective": [{"loss": "ce"}, {"loss": "sra", "projection": {"init": "xavier"}}],
        "optimizer": {"lr": 1e-2, "eps": 1e-4},  # far below the gradients, it makes rounding as large as a step
    }
    given |= {"steps": 6, "batch_size": 4, "accumulation": 2, "threads": 1, "device": "cpu", "log_every": 1}
    given |= {"checkpoint_every": 2, "evaluation": {"texts": made / "held_out.jsonl", "every": 3}}
    return TrainingConfig.model_validate(given | changes)


def of(made: Path, adapted: bool) -> dict[str, Any]:
    if not adapted:
        return {"architecture": ARCHITECTURE, "tokenizer": "teacher"}
    adapter = {"kind": "dora", "rank": 2, "alpha": 4, "dropout": 0.1}
    return {"model": str(made / "base"), "keep_layers": [0, 2], "adapter": adapter}


@pytest.mark.parametrize("adapted", [False, True])
def test_an_interrupted_run_ends_in_the_same_model_near_that_of_float32(
    made: Path, tmp_path: Path, adapted: bool
) -> None:
    student = of(made, adapted)
    train(config(made, tmp_path / "exact", student, "float32"))
    train(config(made, tmp_path / "whole", student, "bfloat16", gradient_checkpointing=True))
    run = config(made, tmp_path / "run", student, "bfloat16")
    interrupt(run, 3)
    train(run)
    files = ["model/model.safetensors", "model/config.json", "metrics.jsonl"]
    for file in files + (["adapter/adapter_model.safetensors"] if adapted else []):
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "run" / file).read_bytes(), file

    weights = load_file(tmp_path / "run/model/model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.bfloat16}
    assert json.loads((tmp_path / "run/model/config.json").read_text())["dtype"] == "bfloat16"
    if adapted:
        held = load_file(tmp_path / "run/adapter/adapter_model.safetensors")
        assert {weight.dtype for weight in held.values()} == {torch.float32}
    near, exact = read_metrics(tmp_path / "run"), read_metrics(tmp_path / "exact")
    assert [list(line) for line in near] == [list(line) for line in exact] and len(near) == 9
    for line, other in zip(near, exact, strict=True):
        assert line == pytest.approx(other, rel=0.02, abs=0.02)
    assert near[-2]["loss"] != exact[-2]["loss"]
    with pytest.raises(RunError, match=r'student\.dtype: found "bfloat16", wanted "float32"'):
        train(config(made, tmp_path / "run", student, "float32"))


def test_every_loss_takes_its_first_step_near_that_of_float32(made: Path) -> None:
    caches, reports = open_caches(config(made, made / "o", of(made, False), "float32")), {}
    for name in (name for name, kind in LOSSES.items() if kind.student == "causal"):
        objective = [{"loss": "ce"}, {"loss": name}] if name != "ce" else [{"loss": "ce"}]
        for dtype in ("float32", "bfloat16"):
            asked = config(made, made / "o", of(made, False), dtype, objective=objective, evaluation=None)
            with torch.random.fork_rng():
                loop = set_up(asked, caches, NEW, 4, read_inputs(asked, made / "cache")).loop
            reports[name, dtype] = loop.step(0).values()
            loop.close()
        assert reports[name, "bfloat16"] == pytest.approx(reports[name, "float32"], rel=0.02, abs=2e-3), name


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"precision": "float32"}, "computes in it: set precision to auto"),
        ({"optimizer": {"sharpness": {}}}, "by less than bfloat16 can tell: set optimizer.sharpness to null"),
    ],
)
def test_what_bfloat16_cannot_do_is_refused(made: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        config(made, made / "o", of(made, False), "bfloat16", **changes)

"""Students with adapters: small checkpoints, the same bits after an interruption, files that PEFT opens."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from schemas.configs.training import TrainingConfig
from schemas.errors import RunError
from tests.caches import small_cache
from tests.crash import interrupt
from tests.tiny import tiny_llama, tiny_tokenizer
from trainer.runs.checkpoint import complete_checkpoints
from trainer.runs.train import train

peft = pytest.importorskip("peft")
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # by peft


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_cache(tmp_path_factory.mktemp("adapted"))


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = tmp_path / "base"
    tiny_llama(folder, tiny_tokenizer(folder, "bytelevel"), hidden=16, layers=2, heads=2)
    return folder


def config(cache: Path, base: Path, output: Path, kind: str) -> TrainingConfig:
    adapter = {"kind": kind, "rank": 2, "alpha": 4, "dropout": 0.1}
    given: dict[str, Any] = {
        "cache": cache,
        "output": output,
        "student": {"model": str(base), "max_tokens": 64, "adapter": adapter},
        "objective": [{"loss": "ce"}, {"loss": "sra", "projection": {"init": "xavier"}}],
        "optimizer": {"lr": 1e-2},
    }
    given |= {"steps": 4, "batch_size": 2, "threads": 1, "device": "cpu", "checkpoint_every": 2, "log_every": 1}
    return TrainingConfig.model_validate(given)


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(torch.arange(20).view(2, 10)).logits
    return found


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_an_interrupted_run_ends_in_the_same_adapter_and_model(
    cache: Path, base: Path, tmp_path: Path, kind: str
) -> None:
    train(config(cache, base, tmp_path / "whole", kind))
    run = config(cache, base, tmp_path / "run", kind)
    interrupt(run, 3)
    (checkpoint,) = complete_checkpoints(tmp_path / "run" / "checkpoints")
    held = load_file(checkpoint / "model" / "adapter_model.safetensors")
    assert all(".lora_" in name for name in held)
    assert {path.name for path in (checkpoint / "model").iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    train(run)
    for file in ("adapter/adapter_model.safetensors", "adapter/adapter_config.json", "model/model.safetensors"):
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "run" / file).read_bytes()
    assert (tmp_path / "whole/metrics.jsonl").read_bytes() == (tmp_path / "run/metrics.jsonl").read_bytes()

    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "model")
    plain = AutoModelForCausalLM.from_pretrained(base)
    before = logits(plain)
    adapted = peft.PeftModel.from_pretrained(plain, tmp_path / "run" / "adapter")
    assert torch.allclose(logits(merged), logits(adapted), atol=1e-5)
    assert (logits(merged) - before).abs().max() > 1e-3
    assert torch.equal(merged.get_input_embeddings().weight, plain.get_input_embeddings().weight)


def test_a_finished_run_is_the_base_of_another(cache: Path, base: Path, tmp_path: Path) -> None:
    train(config(cache, base, tmp_path / "first", "lora"))
    train(config(cache, tmp_path / "first", tmp_path / "second", "lora"))
    said = json.loads((tmp_path / "second/adapter/adapter_config.json").read_text())
    assert said["base_model_name_or_path"] == str(tmp_path / "first" / "model")


def test_another_base_is_not_gone_on_from(cache: Path, base: Path, tmp_path: Path) -> None:
    run = config(cache, base, tmp_path / "run", "lora")
    interrupt(run, 3)
    weights = load_file(base / "model.safetensors")
    weights["model.norm.weight"] += 1e-3
    save_file(weights, base / "model.safetensors", {"format": "pt"})
    with pytest.raises(RunError, match=r"was made with other contents of student\.model \(.*base\); put back"):
        train(run)

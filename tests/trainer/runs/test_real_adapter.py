"""SmolLM2 learns from Gemma 3 by LoRA, where `STILLROOM_MODELS` names the folder of those models."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from schemas.configs.training import TrainingConfig
from tests.caches import build_cache, extraction, write_corpus
from tests.crash import interrupt
from tests.tiny import TEXTS
from trainer.runs.train import train

peft = pytest.importorskip("peft")
MODELS = Path(os.environ.get("STILLROOM_MODELS", ""))
TEACHER, STUDENT = MODELS / "gemma3-270m", MODELS / "smollm2-135m-instruct"
pytestmark = [
    pytest.mark.skipif(
        not (TEACHER / "config.json").is_file() or not (STUDENT / "config.json").is_file(),
        reason="needs Gemma 3 270M and SmolLM2-135M in STILLROOM_MODELS",
    ),
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),  # by peft
]


def make_cache(folder: Path) -> Path:
    corpus = write_corpus(folder / "corpus.jsonl", TEXTS[:4])
    states = {"hidden": [9, 18], "mass": [18], "encoding": "exact", "dtype": "bfloat16"}
    return build_cache(extraction(folder / "cache", TEACHER, corpus, states=states, teacher={"dtype": "float32"}))


def config(cache: Path, output: Path) -> TrainingConfig:
    adapter = {"rank": 4, "alpha": 8, "dropout": 0.1, "targets": ["q_proj", "v_proj"]}
    given: dict[str, Any] = {
        "cache": cache,
        "output": output,
        "student": {"model": str(STUDENT), "max_tokens": 64, "adapter": adapter},
        "objective": [{"loss": "ce", "weight": 0.5}, {"loss": "sra", "weight": 0.5}],
        "optimizer": {"lr": 1e-2, "warmup": 0},
        "device": "cpu",
    }
    return TrainingConfig.model_validate(given | {"steps": 2, "batch_size": 2, "checkpoint_every": 1, "log_every": 1})


def test_smollm_learns_from_gemma_by_lora(tmp_path: Path) -> None:
    cache = make_cache(tmp_path)
    train(config(cache, tmp_path / "whole"))
    run = config(cache, tmp_path / "run")
    interrupt(run, 1)
    checkpoint = tmp_path / "run/checkpoints/step-00000001/model/adapter_model.safetensors"
    assert checkpoint.stat().st_size < 0.01 * (STUDENT / "model.safetensors").stat().st_size
    train(run)
    for file in ("adapter/adapter_model.safetensors", "model/model.safetensors", "metrics.jsonl"):
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "run" / file).read_bytes()

    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "run" / "model")
    tokens_1S = tokenizer("The capital of France is", return_tensors="pt").input_ids
    base = AutoModelForCausalLM.from_pretrained(STUDENT, dtype=torch.float32)
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "model", dtype=torch.float32)
    with torch.no_grad():
        before, after = base(tokens_1S).logits, merged(tokens_1S).logits
        adapted = peft.PeftModel.from_pretrained(base, tmp_path / "run" / "adapter").eval()(tokens_1S).logits
    assert (adapted - after).abs().max() < 1e-4 * after.abs().max()
    assert (after - before).abs().max() > 1e-2 * before.abs().max()

"""One rank over NCCL: a run in a group of its own is the run alone, a divided student takes the step of a whole one.

python -m tests.gpu ranks
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
from torch.distributed.fsdp import FSDPModule
from transformers import LlamaConfig, LlamaForCausalLM

from tests.gpu.models import training_config
from trainer.optimisation.division import REDUCES_ALL, Division
from trainer.runs.group import joined
from trainer.runs.metrics import read_metrics
from trainer.runs.train import train

OBJECTIVE: list[dict[str, Any]] = [{"loss": "ce", "weight": 0.5}, {"loss": "sra", "weight": 0.5}]
CLOSE = 1e-5


def check_ranks(folder: Path) -> Iterator[tuple[str, str]]:
    """Losses of a run in a group of one, and gradients of a divided student, beside those without."""
    settings = {"device": "cuda", "precision": "float32", "steps": 4}
    train(training_config(folder, "alone", OBJECTIVE, **settings))
    one = training_config(folder, "one-rank", OBJECTIVE, **settings)
    with _as_rank():
        train(one)
        with joined(one):
            worst = _divided() if hasattr(FSDPModule, REDUCES_ALL) else None
    lines, others = read_metrics(folder / "alone"), read_metrics(folder / "one-rank")
    loss = max(abs(a["loss"] / b["loss"] - 1) for a, b in zip(lines, others, strict=True) if "loss" in a)
    assert loss < CLOSE and (worst is None or worst < CLOSE), (loss, worst)
    yield "largest difference of a loss, in a group of one rank and alone", f"{loss:.1e}"
    divided = f"not checked: torch {torch.__version__} divides no student" if worst is None else f"{worst:.1e}"
    yield "largest difference of a gradient, divided and whole", divided


@contextmanager
def _as_rank() -> Iterator[None]:
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # type: ignore[attr-defined]
    named = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
    named |= {"MASTER_PORT": str(store.port), "TORCHELASTIC_USE_AGENT_STORE": "True"}
    with mock.patch.dict(os.environ, named):
        yield


def _divided() -> float:
    """Relative to the largest gradient, by a loss that multiplies by the head outside of the model's pass."""
    gradients = []
    for divides in (False, True):
        torch.manual_seed(0)
        sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4}
        model: Any = LlamaForCausalLM(LlamaConfig(vocab_size=512, **sizes))
        division = Division(model, torch.device("cuda"), 1) if divides else None
        model = model if divides else model.to("cuda")
        ids_BS = torch.arange(256, device="cuda").view(4, 64)
        given = {"input_ids": ids_BS, "use_cache": False}
        output = division.call(model.base_model, **given) if division else model.base_model(**given)
        loss = (output.last_hidden_state @ model.get_output_embeddings().weight.T).logsumexp(-1).sum()
        (loss + division.nothing() if division else loss).backward()
        held = [p.grad.full_tensor() if divides else p.grad for p in model.parameters()]
        gradients.append(torch.cat([gradient.flatten() for gradient in held]))
    whole, divided = gradients
    return float((whole - divided).abs().max() / whole.abs().max())

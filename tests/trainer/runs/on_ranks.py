"""Work for `start_ranks`: several runs on the same two processes, and one that fails."""

import os
import shutil
import warnings
from pathlib import Path
from typing import Any

from schemas.configs.training import TrainingConfig
from schemas.errors import RunError
from trainer.runs.group import joined

OPTIMIZER = {"lr": 1e-3, "eps": 1e-4}  # at an eps far below the gradients, AdamW makes rounding as large as a step
# Divided students are those of two ranks that are not; the names of these say which.
UNDIVIDED = {"divided_rounded": "rounded", "divided_adapted": "adapted", "divided_dora": "dora"}
# Losses of logits, the head and the last states: what comes back to inner states is summed in another order there.
ROUNDED = {"objective": [{"loss": "ce"}, {"loss": "sra"}, {"loss": "kd"}], "student": {"dtype": "bfloat16"}}
ADAPTED = {
    "student": {"adapter": {"rank": 2, "alpha": 4}, "keep_layers": [0, 1, 3]},
    "gradient_checkpointing": True,
}
# Of rank 1: the second rank has nothing of one of the two matrices.
DORA = {
    "objective": [{"loss": "ce"}, {"loss": "sra"}],
    "student": {"adapter": {"kind": "dora", "rank": 1}, "dtype": "bfloat16"},
}
NO_DROPOUT = {"embd_pdrop": 0.0, "attn_pdrop": 0.0, "resid_pdrop": 0.0}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "idle": {"batch_size": 1, "accumulation": 3},
    "sharp": {"optimizer": OPTIMIZER | {"sharpness": {}}},
    "grown": {},
    "divided": {
        "sharding": "full",
        "optimizer": {"name": "sgd", "lr": 0.1, "clip": 0.1},
        "student": {"architecture": {"model_type": "gpt2", "n_embd": 16, "n_layer": 3, "n_head": 2, **NO_DROPOUT}},
    },
    "divided_grown": {"sharding": "full", "optimizer": OPTIMIZER | {"sharpness": {}}},
    "divided_heads": {
        "sharding": "full",
        "objective": [{"loss": "ce"}, {"loss": "dskd"}, {"loss": "fdd"}],
        "optimizer": OPTIMIZER | {"lr": 1e-4},  # dskd's gradient is steep in its projections
    },
    "rounded": ROUNDED,
    "divided_rounded": ROUNDED | {"sharding": "full", "gradient_checkpointing": True},
    "adapted": ADAPTED,
    "divided_adapted": ADAPTED | {"sharding": "full"},
    "dora": DORA,
    "divided_dora": DORA | {"sharding": "full"},
}


def changes(name: str, folder: Path) -> dict[str, Any]:
    """A variant's settings, whose student is that of `student`, or adapts the model in `folder`/base."""
    student = {"max_tokens": 64} | VARIANTS[name].get("student", {})
    if "adapter" in student:
        origin: dict[str, Any] = {"model": str(folder / "base")}
    else:
        sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2}
        origin = {"architecture": {"model_type": "llama", **sizes}, "tokenizer": "teacher"}
    return VARIANTS[name] | {"student": origin | student}


def train_variants(config: TrainingConfig) -> None:
    """Each of VARIANTS, into a folder of its name beside `config.output`; and those in UNDIVIDED again, interrupted:
    `NAME_resumed` goes on as it began, and `NAME_left` is left there. What began as `rounded` goes on divided."""
    from trainer.runs.train import train

    warnings.filterwarnings("error", module="torch.distributed")  # what a user would wonder at

    def run(name: str, output: str) -> TrainingConfig:
        changed = changes(name, config.output.parent) | {"output": config.output / output}
        return TrainingConfig.model_validate(config.model_dump() | changed)

    for name in VARIANTS:
        train(run(name, name))
    for name in UNDIVIDED:
        stop(run(name, f"{name}_resumed"), 3)
        if os.environ["RANK"] == "0":
            shutil.copytree(config.output / f"{name}_resumed", config.output / f"{name}_left")
        train(run(name, f"{name}_resumed"))
    stop(run("rounded", "rounded_moved"), 3)
    train(run("divided_rounded", "rounded_moved"))


def stop(config: TrainingConfig, step: int) -> None:
    """Train up to `step`, and leave the rest."""
    from trainer.runs.train import steps_of

    with joined(config):
        steps = steps_of(config)
        while next(steps) < step:
            pass
        steps.close()


def fail(config: TrainingConfig) -> None:
    """The second rank fails while the first waits for it."""
    with joined(config) as ranks:
        ranks.gather("both are here")
        if ranks.rank == 1:
            raise RunError("sample s3 has no text")
        ranks.gather("the other one is gone")


def speak(config: TrainingConfig) -> None:
    """Say who is there, as a library does that knows nothing of Python's `sys.stderr`."""
    os.write(2, f"rank {os.environ['RANK']} of {config.output.name}\n".encode())


def lack(config: TrainingConfig) -> None:
    """Write where there is no folder."""
    with joined(config):
        (config.output / "nowhere" / "file").write_text("")

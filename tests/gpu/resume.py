"""Resumed runs on a GPU.

python -m tests.gpu extraction resume
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from tests.crash import interrupt
from tests.gpu.models import training_config
from tests.gpu.steps import OBJECTIVES
from trainer.runs.train import train


def weights(run: Path) -> dict[str, torch.Tensor]:
    """The finished student's."""
    return load_file(run / "model" / "model.safetensors")


def check_resume(folder: Path) -> Iterator[tuple[str, str]]:
    """A run with dropout that was cut off ends in the bits of an undisturbed one; so does a second one."""
    for name in ("ce", "sra", "mta"):
        settings: dict[str, Any] = {"dropout": 0.1, "checkpoint_every": 3}
        for run in ("whole", "again"):
            train(training_config(folder, f"{run}-{name}", OBJECTIVES[name], **settings))
        interrupt(training_config(folder, f"cut-{name}", OBJECTIVES[name], **settings), 5)
        train(training_config(folder, f"cut-{name}", OBJECTIVES[name], **settings))
        whole, again, cut = (weights(folder / f"{run}-{name}") for run in ("whole", "again", "cut"))
        apart = [max(float((whole[k] - other[k]).abs().max()) for k in whole) for other in (again, cut)]
        assert apart == [0, 0], (name, apart)
        yield f"{name}: weights of a second run, of a resumed one", "the same bits"

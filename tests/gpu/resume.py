"""Resumed runs on a GPU.

python -m tests.gpu extraction resume
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from tests.gpu.models import training_config
from tests.gpu.steps import OBJECTIVES
from trainer.optimisation.loop import Loop, StepReport
from trainer.runs.metrics import read_metrics
from trainer.runs.train import train

FINAL_LOSS = 0.02


def weights(run: Path) -> dict[str, torch.Tensor]:
    """The finished student's."""
    return load_file(run / "model" / "model.safetensors")


def check_resume(folder: Path) -> Iterator[tuple[str, str]]:
    """A run with dropout that was cut off in the middle ends where an undisturbed one does; so does a second one."""
    for name in ("ce", "sra", "mta"):
        settings: dict[str, Any] = {"dropout": 0.1, "checkpoint_every": 3}
        for run in ("whole", "again"):
            train(training_config(folder, f"{run}-{name}", OBJECTIVES[name], **settings))
        interrupt(training_config(folder, f"cut-{name}", OBJECTIVES[name], **settings), 5)
        train(training_config(folder, f"cut-{name}", OBJECTIVES[name], **settings))
        whole, again, cut = (weights(folder / f"{run}-{name}") for run in ("whole", "again", "cut"))
        largest = max(float(value.abs().max()) for value in whole.values())
        differences = [max(float((whole[k] - other[k]).abs().max()) for k in whole) / largest for other in (again, cut)]
        losses = [read_metrics(folder / f"{run}-{name}")[-1]["loss"] for run in ("whole", "again", "cut")]
        assert max(losses) - min(losses) < FINAL_LOSS * losses[0], losses
        yield (
            f"{name}: weights of a second run, of a resumed one",
            " and ".join("identical" if d == 0 else f"differ by {d:.1e}" for d in differences),
        )


def interrupt(config: Any, at: int) -> None:
    """Train until step number `at` begins."""
    original = Loop.step

    def cut(self: Loop, step: int) -> StepReport:
        if step == at:
            raise KeyboardInterrupt
        return original(self, step)

    Loop.step = cut  # type: ignore[method-assign]
    try:
        train(config)
    except KeyboardInterrupt:
        return
    finally:
        Loop.step = original  # type: ignore[method-assign]
    raise AssertionError("the run was not cut off")

"""The share of a step that its loop waits for a batch, by default: one thread reads ahead.

python -m tests.gpu extraction waiting
"""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from schemas.configs.training import TrainingConfig
from tests.benchmarks.loading import Waited
from tests.gpu.models import training_config
from tests.gpu.steps import loop_of
from trainer.optimisation.loop import Loop

STEPS, WARM = 20, 4
OBJECTIVES = {"ce": ["ce"], "kd": ["ce", "kd"], "sra": ["ce", "sra"]}


def check_waiting(folder: Path) -> Iterator[tuple[str, str]]:
    """Of steps of 32 samples, whose device works on while the next batch is fetched."""
    yield from measure(folder, STEPS, batch_size=32)


def measure(folder: Path, steps: int, **settings: Any) -> Iterator[tuple[str, str]]:
    """The same for `settings` of a run over `folder`/cache."""
    for name, losses in OBJECTIVES.items():
        objective = [{"loss": loss} for loss in losses]
        loop, stream = make_loop(training_config(folder, f"waiting-{name}", objective, **settings))
        for step in range(WARM):
            loop.step(step)
        stream.seconds, started = 0.0, time.perf_counter()
        for step in range(WARM, WARM + steps):
            loop.step(step)  # ends with its loss on the host, so the device has nothing left to do but the update
        seconds = time.perf_counter() - started
        loop.close()
        figure = f"{1000 * seconds / steps:.0f} ms, {stream.seconds / seconds:.1%}"
        yield f"{name}: a step, share that waits for its batch", figure


def make_loop(config: TrainingConfig) -> tuple[Loop, Waited]:
    """A run that is about to take its first step, and its stream."""
    loop = loop_of(config, 100)
    stream = Waited(loop.sources["corpus"].stream)
    loop.sources = {"corpus": replace(loop.sources["corpus"], stream=stream)}
    return loop, stream

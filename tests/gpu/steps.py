"""Steps of every objective: on a GPU as on a CPU, and how long each takes.

python -m tests.gpu extraction losses steps
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from schemas.configs.losses.registry import LOSSES
from schemas.configs.training import TrainingConfig
from tests.gpu.models import training_config
from trainer.optimisation.loop import Loop, StepReport
from trainer.runs.caches import open_caches
from trainer.runs.checkpoint import find_start
from trainer.runs.inputs import read_inputs
from trainer.runs.setup import set_up

OBJECTIVES: dict[str, list[dict[str, Any]]] = {
    **{name: [{"loss": "ce"}, {"loss": name}] for name, kind in LOSSES.items() if kind.student == "causal"},
    "ce": [{"loss": "ce"}],
    "kd": [{"loss": "ce", "weight": 0.5}, {"loss": "kd", "weight": 0.5}],
    "sra": [{"loss": "ce", "weight": 0.5}, {"loss": "sra", "weight": 0.5}],
    "mta": [{"loss": "ce"}, {"loss": "mta", "teacher_layers": [6, 8, 12], "student_layers": [3, 4, 6]}],
    "fdd": [{"loss": "ce"}, {"loss": "fdd", "teacher_layers": [6, 8, 12], "student_layers": [3, 4, 6]}],
}
FIRST_LOSS = 2e-4  # relative: the same sums in another order, through six layers
STEPS = 8


def loop_of(config: TrainingConfig, steps: int) -> Loop:
    """That of a run at its beginning."""
    start = find_start(config.output / "checkpoints", "-", "-")
    return set_up(config, open_caches(config), start, steps, read_inputs(config, config.caches[0])).loop


def first_report(folder: Path, name: str, device: str, tokenizer: str, cache: str = "cache") -> StepReport:
    """The first step of one objective, in float32."""
    config = training_config(
        folder,
        f"first-{name}-{device}-{cache}",
        OBJECTIVES[name],
        device=device,
        precision="float32",
        tokenizer=tokenizer,
        cache=folder / cache,
        batch_size=4,
    )
    return loop_of(config, STEPS).step(0)


def check_losses(folder: Path) -> Iterator[tuple[str, str]]:
    """Every term of every loss over tokens is on the GPU what it is on the CPU, with one tokenizer and with another."""
    other = str(folder / "other")
    for name in OBJECTIVES:
        tokenizers = {"one": "teacher"} if name in ("kd", "fdd", "dskd") else {"one": "teacher", "two": other}
        for which, tokenizer in tokenizers.items():
            cpu, gpu = (first_report(folder, name, device, tokenizer) for device in ("cpu", "cuda"))
            yield f"{name}, {which} tokenizer: terms, gradient norm", require_alike(cpu, gpu)


def require_alike(cpu: StepReport, gpu: StepReport) -> str:
    """By how much terms and gradient norm differ, which must be little."""
    worst = max(abs(gpu.terms[term] - value) / max(1e-3, abs(value)) for term, value in cpu.terms.items())
    norm = abs(gpu.grad_norm - cpu.grad_norm) / cpu.grad_norm
    assert worst < FIRST_LOSS and norm < 10 * FIRST_LOSS, (cpu, gpu)
    return f"{worst:.1e}, {norm:.1e}"


def check_steps(folder: Path) -> Iterator[tuple[str, str]]:
    """Time of a step, beside cross-entropy alone, in the precision that `auto` chooses; and its memory."""
    usual = 0.0
    for name in sorted(OBJECTIVES, key=lambda name: (name != "ce", name)):
        config = training_config(folder, f"step-{name}", OBJECTIVES[name], batch_size=32, loader_workers=4)
        loop = loop_of(config, 100)
        seconds, peak = median_step(loop)
        usual = seconds if name == "ce" else usual
        figure = f"{1000 * seconds:.0f} ms, {seconds / usual:.2f}, {peak:.1f} GiB"
        yield f"{name}: a step of 32 samples, ÷ ce, peak memory", figure
        loop.close()
        del loop
        torch.cuda.empty_cache()


def median_step(loop: Loop) -> tuple[float, float]:
    """Seconds of a step, of twelve after three, and the GiB of the GPU's memory that they took at most."""
    for number in range(3):
        loop.step(number)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    seconds = sorted(timed(loop, number) for number in range(3, 15))[6]
    return seconds, torch.cuda.max_memory_allocated() / 2**30


def timed(loop: Loop, number: int) -> float:
    """Seconds of one step, the GPU's work included."""
    wait()
    started = time.perf_counter()
    loop.step(number)
    wait()
    return time.perf_counter() - started


def wait() -> None:
    """Until a GPU has done what it was asked for."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()

"""What must hold on a GPU, each check a row of figures. A check that fails raises."""

import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from schemas.cache.reader import Cache
from schemas.configs.losses.registry import LOSSES
from schemas.configs.training import TrainingConfig
from schemas.models.state_decoder import DecodersByDevice, load_decoders
from tests.caches import build_cache
from tests.encoded import invent_cache
from tests.gpu.kernels import check_kernels
from tests.gpu.models import extraction_config, training_config
from tests.gpu.ranks import check_ranks
from tests.gpu.spread import check_spread
from tests.gpu.teacher import check_teacher
from tests.gpu.waiting import check_waiting
from tests.gpu.wide import check_wide
from trainer.data.encoded_states import EncodedStates
from trainer.data.request import Drawn
from trainer.optimisation.loop import Loop, StepReport
from trainer.runs.caches import open_caches
from trainer.runs.checkpoint import find_start
from trainer.runs.inputs import read_inputs
from trainer.runs.metrics import read_metrics
from trainer.runs.setup import set_up
from trainer.runs.train import train

OBJECTIVES: dict[str, list[dict[str, Any]]] = {
    **{name: [{"loss": "ce"}, {"loss": name}] for name, kind in LOSSES.items() if kind.student == "causal"},
    "ce": [{"loss": "ce"}],
    "kd": [{"loss": "ce", "weight": 0.5}, {"loss": "kd", "weight": 0.5}],
    "sra": [{"loss": "ce", "weight": 0.5}, {"loss": "sra", "weight": 0.5}],
    "mta": [{"loss": "ce"}, {"loss": "mta", "teacher_layers": [6, 8, 12], "student_layers": [3, 4, 6]}],
    "fdd": [{"loss": "ce"}, {"loss": "fdd", "teacher_layers": [6, 8, 12], "student_layers": [3, 4, 6]}],
}
FIRST_LOSS = 2e-4  # relative: the same sums in another order, through six layers
STATES = 2e-3  # of a state's largest entry: the GPU multiplies in float32 in another order, too
FINAL_LOSS = 0.02
STEPS = 8


def check_extraction(folder: Path) -> Iterator[tuple[str, str]]:
    """States of the GPU are those of the CPU, and extraction's speed on either."""
    seconds = {}
    for device in ("cpu", "cuda"):
        started = time.monotonic()
        build_cache(extraction_config(folder, f"cache-{device}", device, threads=8))
        seconds[device] = time.monotonic() - started
    caches = {device: Cache(folder / f"cache-{device}") for device in seconds}
    worst = 0.0
    for position in range(0, len(caches["cpu"]), 7):
        for array in caches["cpu"].manifest.arrays:
            cpu, gpu = (cache.states(position, [array])[0].astype(np.float64) for cache in caches.values())
            worst = max(worst, float(np.abs(cpu - gpu).max() / np.abs(cpu).max()))
    assert worst < STATES, worst
    tokens = int(caches["cpu"].tokens.sum())
    yield "largest difference of a state, CPU and GPU", f"{worst:.1e}"
    yield "tokens per second, CPU (8 threads) and GPU", ", ".join(f"{tokens / s:,.0f}" for s in seconds.values())
    shutil.move(folder / "cache-cuda", folder / "cache")


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
    return _loop(config, STEPS).step(0)


def _loop(config: TrainingConfig, steps: int) -> Loop:
    """That of a run at its beginning."""
    start = find_start(config.output / "checkpoints", "-", "-")
    return set_up(config, open_caches(config), start, steps, read_inputs(config, config.caches[0])).loop


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


def check_encoded(folder: Path) -> Iterator[tuple[str, str]]:
    """States are decoded on the GPU as on the CPU, losses from them are the same, and a step from an encoded cache
    takes no longer than from the raw one."""
    raw = build_cache(extraction_config(folder, "raw", "cuda", threads=8, stored="bfloat16"))
    invent_cache(raw, folder / "encoded", stages=3.5 / 8, inner_stages=1.25 / 8)
    yield from decoded_on_either(Cache(folder / "encoded"))
    for name in ("kd", "sra", "mta", "fdd"):
        cpu, gpu = (first_report(folder, name, device, "teacher", "encoded") for device in ("cpu", "cuda"))
        yield f"{name}, encoded: terms, gradient norm", require_alike(cpu, gpu)
    for name in ("kd", "sra", "mta"):
        settings: dict[str, Any] = {"batch_size": 32, "loader_workers": 4}
        loops = [
            _loop(training_config(folder, f"{cache}-{name}", OBJECTIVES[name], cache=folder / cache, **settings), 100)
            for cache in ("raw", "encoded")
        ]
        seconds = [[timed(loop, number) for loop in loops] for number in range(18)][3:]
        of_raw, ratio = (sorted(figures)[7] for figures in ([a for a, _ in seconds], [b / a for a, b in seconds]))
        yield f"{name}: a step from the raw cache, encoded ÷ raw", f"{1000 * of_raw:.0f} ms, {ratio:.3f}"
        del loops
        torch.cuda.empty_cache()


def decoded_on_either(cache: Cache) -> Iterator[tuple[str, str]]:
    """The largest difference of decoded states and coordinates, in parts of a row's length; and time per row."""
    positions = list(range(0, len(cache), 3))
    decoders = DecodersByDevice(load_decoders(cache.path, cache.manifest))
    drawn = Drawn(cache, positions, [cache.sample(position) for position in positions], [])
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    for array in cache.arrays_of("hidden"):
        rows = drawn.encoded_states(array)
        assert isinstance(rows, EncodedStates)
        for as_coordinates in (False, True):
            asked = replace(rows, as_coordinates=as_coordinates)
            there = asked.to(cuda)
            decoder = decoders.on(cuda)["hidden", array.layer]
            for _ in range(2):  # the first makes what is looked up
                torch.cuda.synchronize()
                started = time.perf_counter()
                found_BTx = there.decode(decoder)
                torch.cuda.synchronize()
                seconds = time.perf_counter() - started
            wanted_BTx = asked.decode(decoders.on(cpu)["hidden", array.layer])
            lengths = wanted_BTx.norm(dim=-1).clamp_min(1e-6)
            worst = float(((found_BTx.cpu() - wanted_BTx).norm(dim=-1) / lengths).max())
            assert worst < STATES, (array, as_coordinates, worst)
            what = "coordinates" if as_coordinates else "states"
            figure = f"{worst:.1e}, {1e6 * seconds / len(rows.size_N):.2f} us"
            yield f"layer {array.layer}: {what} differ by, GPU per row", figure


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


def check_steps(folder: Path) -> Iterator[tuple[str, str]]:
    """Time of a step, beside cross-entropy alone, in the precision that `auto` chooses; and its memory."""
    usual = 0.0
    for name in sorted(OBJECTIVES, key=lambda name: (name != "ce", name)):
        config = training_config(folder, f"step-{name}", OBJECTIVES[name], batch_size=32, loader_workers=4)
        loop = _loop(config, 100)
        for number in range(3):
            loop.step(number)
        torch.cuda.reset_peak_memory_stats()
        seconds = sorted(timed(loop, number) for number in range(3, 15))[6]
        usual = seconds if name == "ce" else usual
        peak = torch.cuda.max_memory_allocated() / 2**30
        figure = f"{1000 * seconds:.0f} ms, {seconds / usual:.2f}, {peak:.1f} GiB"
        yield f"{name}: a step of 32 samples, ÷ ce, peak memory", figure
        del loop
        torch.cuda.empty_cache()


def timed(loop: Loop, number: int) -> float:
    """Seconds of one step, the GPU's work included."""
    torch.cuda.synchronize()
    started = time.perf_counter()
    loop.step(number)
    torch.cuda.synchronize()
    return time.perf_counter() - started


CHECKS = {
    "kernels": check_kernels,
    "extraction": check_extraction,
    "losses": check_losses,
    "encoded": check_encoded,
    "resume": check_resume,
    "steps": check_steps,
    "waiting": check_waiting,
    "teacher": check_teacher,
    "wide": check_wide,
    "spread": check_spread,
    "ranks": check_ranks,
}

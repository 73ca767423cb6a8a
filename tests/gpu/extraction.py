"""Extraction: the states of a GPU are those of a CPU. What it makes is the cache of the checks after it.

python -m tests.gpu extraction
"""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from schemas.cache.reader import Cache
from tests.caches import build_cache
from tests.gpu.models import extraction_config

STATES = 2e-3  # of a state's largest entry: the GPU multiplies in float32 in another order, too


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

"""What it costs to compare blocks with their checksums: GB/s per core, and the share of a first epoch's steps.

    python -m tests.benchmarks.checking

The bounds are 5 GB/s and 2 %. The file of 512 MB is in memory. The steps are those of `tests.benchmarks.step`, whose
student is small, on the CPU and with nothing read ahead: every check is part of a step.
"""

import mmap
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from rich.console import Console

from schemas.cache.checked_map import CheckedMap, FileBlocks
from schemas.cache.chunk import map_chunk
from schemas.storage.blocks import check_blocks, describe_blocks
from tests.benchmarks.step import BATCH, OBJECTIVES, make_cache, make_loop

BYTES = 512 << 20
WIDTH, ROWS_AT_ONCE = 768, 168  # bfloat16 columns, and tokens of a sample
EPOCH = 96 // BATCH  # steps


def rate(folder: Path) -> float:
    """Bytes per second of the samples of a file in random order, until every block was touched."""
    path, shape = folder / "values", (BYTES // (2 * WIDTH), WIDTH)
    np.random.default_rng(0).integers(0, 0x7F80, shape, dtype=np.uint16).tofile(path)
    file = describe_blocks(path)
    assert file.blocks is not None
    best = 0.0
    for _ in range(3):
        values, flags = map_chunk(path, np.dtype("<u2"), shape), mmap.mmap(-1, file.block_count)
        opened = CheckedMap(values, FileBlocks(path, file.blocks, flags, 0, lambda: None, ""))
        starts = range(0, shape[0] - ROWS_AT_ONCE, ROWS_AT_ONCE)
        order = np.random.default_rng(1).permutation(starts).tolist()
        started = time.thread_time()
        for start in order:
            opened[start : start + ROWS_AT_ONCE]
        best = max(best, BYTES / (time.thread_time() - started))
    return best


def timed(function: Callable[..., Any], spent: list[float]) -> Callable[..., Any]:
    """The function, which adds the seconds of each call to `spent`."""

    def call(*arguments: Any) -> Any:
        started = time.thread_time()
        found = function(*arguments)
        spent.append(time.thread_time() - started)
        return found

    return call


def share(folder: Path, objective: list[dict[str, Any]]) -> float:
    """What is spent comparing, while a training is set up and in its first epoch, of the time of the latter's steps."""
    spent = list[float]()
    with (
        patch.object(FileBlocks, "check", timed(FileBlocks.check, spent)),
        patch("schemas.cache.shard_files.check_blocks", timed(check_blocks, spent)),
    ):
        loop = make_loop(folder, objective, "teacher", threads=1)
        started = time.thread_time()
        for number in range(EPOCH):
            loop.step(number)
    return sum(spent) / (time.thread_time() - started)


def main() -> None:
    """Print both."""
    console = Console()
    with tempfile.TemporaryDirectory() as folder:
        console.print(f"checking: {rate(Path(folder)) / 1e9:.1f} GB/s per core")
    with tempfile.TemporaryDirectory() as folder:
        make_cache(Path(folder))
        for name, objective in OBJECTIVES.items():
            console.print(f"{name}: {100 * share(Path(folder), objective):.3f} % of a first epoch's steps")


if __name__ == "__main__":
    main()

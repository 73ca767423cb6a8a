"""A training step from an encoded cache against the same step from the raw one.

    python -m tests.benchmarks.encoded [OBJECTIVE ...] [--rounds 9] [--threads 2] [--vocabulary 32768] [--cpu-time]

Student: Llama, 4 layers, 256 wide; teacher: a random Llama, 6 layers, 576 wide; batches of 4 x 256 tokens; both have a
vocabulary of 32,768. The encoded cache takes 3.5 bits per number of the final layer and 1.25 of each of two inner ones,
an eighth of bfloat16; its codes are random, and every row has all its stages, which is more than rows have that stop
where they may. Whole optimiser steps from either cache in turn, reading included; the ratio is the median of pairs.
Bounds: 1.0 for kd and sra, 1.03 for mta. On a machine that others use, `--cpu-time` and one thread say more than the
clock on the wall.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.benchmarks.step import FINAL_STAGES, INNER_STAGES, OBJECTIVES, make_cache, make_loop, time_parts, time_steps
from tests.encoded import invent_cache

WIDTH, BATCH = 576, 4
WARM_UP = 3


def make_caches(folder: Path, vocabulary: int) -> None:
    """`cache` and, of the same samples, `encoded`, unless they are there."""
    if not (folder / "encoded").exists():
        raw = folder / "cache"
        if not raw.exists():
            make_cache(folder, width=WIDTH, vocabulary=vocabulary)
        invent_cache(raw, folder / "encoded", FINAL_STAGES, INNER_STAGES)


def compare(folder: Path, name: str, arguments: argparse.Namespace) -> Table:
    """Steps of one objective from either cache."""
    tokenizer = str(folder / "other") if arguments.cross else "teacher"
    sizes = {"vocabulary": arguments.vocabulary, "batch": BATCH}
    loops = {
        cache: make_loop(folder, OBJECTIVES[name], tokenizer, arguments.threads, cache_name=cache, **sizes)
        for cache in ("cache", "encoded")
    }
    clock = time.process_time if arguments.cpu_time else time.perf_counter
    seconds = time_steps(loops, arguments.rounds, WARM_UP, clock)
    ratio = statistics.median(a / b for a, b in zip(seconds["encoded"], seconds["cache"], strict=True))
    parts = {cache: time_parts(loop, 3) for cache, loop in loops.items()}
    table = Table(name, "ms per step", *(f"{part} ms" for part in parts["cache"]), title=f"ratio {ratio:.3f}")
    for cache, times in parts.items():
        row = [f"{value:.0f}" for value in times.values()]
        table.add_row(cache, f"{1000 * statistics.median(seconds[cache]):.0f}", *row)
    return table


def main() -> None:
    """Print a table of every objective."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("objectives", nargs="*", default=["ce+kd", "ce+sra", "ce+mta"])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--vocabulary", type=int, default=32_768)
    parser.add_argument("--cross", action="store_true", help="the student has a tokenizer of its own")
    parser.add_argument("--cpu-time", action="store_true", help="the process's own seconds")
    parser.add_argument("--folder", type=Path, help="for the caches, which are made if they are not there")
    arguments = parser.parse_args()
    console = Console(width=110)
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(exist_ok=True)
        make_caches(folder, arguments.vocabulary)
        for name in arguments.objectives:
            console.print(compare(folder, name, arguments))


if __name__ == "__main__":
    main()

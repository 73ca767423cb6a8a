"""A training step from an encoded cache against the same step from the raw one.

    python -m tests.benchmarks.encoded [--rounds 9] [--threads 2] [--vocabulary 32768]

Student: Llama, 4 layers, 256 wide; teacher: a random Llama, 6 layers, 576 wide; batches of 8 x 256 tokens; both have a
vocabulary of 32,768. The encoded cache takes 3.5 bits per number of the final layer and 1.25 of each of two inner ones,
an eighth of bfloat16; every row has all its stages, which is more than rows have that stop where they may. Whole
optimiser steps from either cache in turn, reading included; the ratio is the median of pairs. Bounds: 1.0 for kd and
sra, 1.03 for mta.
"""

import argparse
import statistics
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.benchmarks.step import OBJECTIVES, make_cache, make_loop, time_parts, time_steps
from tests.encoded import encode_cache

WIDTH, BATCH = 576, 8
FINAL_STAGES, INNER_STAGES = 3.5 / 8, 1.25 / 8  # per component: a stage takes 8 bits


def make_caches(folder: Path, vocabulary: int) -> None:
    """`cache` and, of the same states, `encoded`."""
    raw = make_cache(folder, width=WIDTH, vocabulary=vocabulary)
    encode_cache(raw, folder / "encoded", "rvq", price=0.0, stages=FINAL_STAGES, inner_stages=INNER_STAGES)


def main() -> None:
    """Print a table of every objective with either tokenizer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("objectives", nargs="*", default=["ce+kd", "ce+sra", "ce+mta"])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--vocabulary", type=int, default=32_768)
    parser.add_argument("--cross", action="store_true", help="the student has a tokenizer of its own")
    arguments = parser.parse_args()
    console = Console(width=110)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_caches(folder, arguments.vocabulary)
        tokenizer = str(folder / "other") if arguments.cross else "teacher"
        for name in arguments.objectives:
            loops = {
                cache: make_loop(
                    folder,
                    OBJECTIVES[name],
                    tokenizer,
                    arguments.threads,
                    cache_name=cache,
                    vocabulary=arguments.vocabulary,
                    batch=BATCH,
                )
                for cache in ("cache", "encoded")
            }
            seconds = time_steps(loops, arguments.rounds)
            ratio = statistics.median(a / b for a, b in zip(seconds["encoded"], seconds["cache"], strict=True))
            parts = {cache: time_parts(loop, 3) for cache, loop in loops.items()}
            table = Table(name, "ms per step", *(f"{part} ms" for part in parts["cache"]), title=f"ratio {ratio:.3f}")
            for cache in loops:
                row = [f"{value:.0f}" for value in parts[cache].values()]
                table.add_row(cache, f"{1000 * statistics.median(seconds[cache]):.0f}", *row)
            console.print(table)


if __name__ == "__main__":
    main()

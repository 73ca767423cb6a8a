"""A sweep of 12 runs on stories, killed twice with SIGKILL: it goes on each time, and ends in one table.

    python -m tests.benchmarks.sweep_kills --cache CACHE --held-out STORIES.jsonl --out FOLDER [--steps 40] [--share 3]

CACHE is one of stories that keeps the final layer, which `kd` reads. Two objectives at two learning
rates with three seeds, one after the other or up to `share` from one read. The first kill is at the first checkpoint of
any run, the second when half of the runs are finished; every kill is told with what was finished by then.
"""

import argparse
import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.benchmarks.commands import write_config

OBJECTIVES: dict[str, list[dict[str, Any]]] = {"ce": [{"loss": "ce"}], "ce+kd": [{"loss": "ce"}, {"loss": "kd"}]}


def sweep(arguments: argparse.Namespace) -> dict[str, Any]:
    """The sweep's file."""
    architecture = {
        "model_type": "llama",
        "hidden_size": 48,
        "intermediate_size": 128,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "max_position_embeddings": 512,
        "tie_word_embeddings": True,
    }
    base = {
        "cache": str(arguments.cache),
        "student": {"architecture": architecture, "tokenizer": "teacher", "max_tokens": 256},
        "steps": arguments.steps,
        "threads": 1,
        "checkpoint_every": max(1, arguments.steps // 4),
        "evaluation": {"texts": str(arguments.held_out), "every": arguments.steps, "limit": 50},
    }
    grid = {"objective": OBJECTIVES, "optimizer.lr": [4e-3, 1e-3]}
    return {"base": base, "output": str(arguments.out), "grid": grid, "seeds": [0, 1, 2], "share": arguments.share}


def finished(out: Path) -> int:
    """Runs whose model is published."""
    return len(list(out.glob("runs/*/model/config.json")))


def kill_when(reached: Callable[[], bool], command: list[str]) -> None:
    """Run `command`, and kill it as soon as it is there."""
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while not reached() and process.poll() is None:
        time.sleep(0.02)
    if process.poll() is not None:
        raise SystemExit("the sweep ended before it could be killed: give it more --steps")
    process.send_signal(signal.SIGKILL)
    process.wait()


def main() -> None:
    """Kill it twice, let it end, and check its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--held-out", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--share", type=int, default=3)
    arguments = parser.parse_args()
    out: Path = arguments.out
    config = write_config(out.with_suffix(".yaml"), sweep(arguments))
    command = [sys.executable, "-m", "jobs.cli", "sweep", str(config)]
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    kill_when(lambda: any(out.glob("runs/*/checkpoints/step-*")), command)
    print(f"killed at the first checkpoint: {finished(out)} of 12 runs were finished")
    kill_when(lambda: finished(out) >= 6, command)
    print(f"killed again: {finished(out)} of 12 runs were finished")
    subprocess.run(command, check=True)
    with (out / "table.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if len(rows) != 12 or any(row["finished"] != "true" for row in rows):
        raise SystemExit(f"{out / 'table.csv'} does not hold 12 finished runs")


if __name__ == "__main__":
    main()

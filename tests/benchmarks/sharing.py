"""Students that share one read against the same students in separate runs. The bound is 15 per cent less work.

    python -m tests.benchmarks.sharing --material ../shared/material [--steps 60] [--rounds 3] [--encoding small]

Teacher: stories260K over stories, all its layers; students: Llamas of 3 layers, 48 wide, one for each of four
objectives, on one thread. Whole runs, set-up included and imports not, in turn in one process. Seconds are the
process's own, so that what a loader's thread does counts, and another program does not; those of the clock are beside
them. The weights of both are compared, and must be the same bits.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file

from schemas.configs.training import TrainingConfig
from tests.caches import build_cache, extraction
from trainer.optimisation.memory import keep_freed_memory
from trainer.runs.together import train_together
from trainer.runs.train import train

CE = {"loss": "ce"}
MTA = {"loss": "mta", "student_layers": [1, 2, 3], "teacher_layers": [1, 3, 5]}
OBJECTIVES: dict[str, list[dict[str, Any]]] = {
    "ce+sra": [CE, {"loss": "sra"}],
    "ce+mta": [CE, MTA],
    "ce+kd": [CE, {"loss": "kd"}],
    "kd+mta": [{"loss": "kd"}, MTA],
}


def make_cache(folder: Path, material: Path, stories: int, encoding: str) -> Path:
    """Of the first `stories`, with every layer that an objective reads."""
    lines = (material / "text" / "stories" / "stories_A.jsonl").read_text(encoding="utf-8").splitlines()[:stories]
    texts = folder / "stories.jsonl"
    texts.write_text("".join(json.dumps({"text": json.loads(line)["text"]}) + "\n" for line in lines), encoding="utf-8")
    config = extraction(
        folder / "cache",
        material / "models" / "stories260K",
        texts,
        corpus={"id": None, "prompt": None, "response": None, "text": "text"},
        teacher={"max_tokens": 256},
        states={"hidden": [1, 3, 5], "mass": [5], "dtype": "bfloat16", "encoding": encoding},
        batching={"unit_tokens": 65_536, "batch_tokens": 8_192},
    )
    return build_cache(config)


def config(cache: Path, output: Path, objective: str, steps: int) -> TrainingConfig:
    """A run of one student."""
    architecture = {
        "model_type": "llama",
        "hidden_size": 48,
        "intermediate_size": 128,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "max_position_embeddings": 512,
        "tie_word_embeddings": True,
    }
    given = {
        "cache": cache,
        "output": output / objective,
        "student": {"architecture": architecture, "tokenizer": "teacher", "max_tokens": 256},
        "objective": OBJECTIVES[objective],
        "steps": steps,
        "threads": 1,
    }
    return TrainingConfig.model_validate(given)


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds of this process, and of the clock."""
    clock, own = time.perf_counter(), time.process_time()
    work()
    return time.process_time() - own, time.perf_counter() - clock


def apart(configs: Sequence[TrainingConfig]) -> None:
    """One run after the other."""
    for each in configs:
        train(each)


def together(configs: Sequence[TrainingConfig]) -> None:
    """All in lock-step."""
    for result in train_together(configs):
        if isinstance(result, Exception):
            raise result


def require_same(one: Path, other: Path) -> None:
    """Raises AssertionError unless both hold the same students."""
    for objective in OBJECTIVES:
        left, right = (load_file(folder / objective / "model" / "model.safetensors") for folder in (one, other))
        assert all(torch.equal(left[name], right[name]) for name in left | right), objective


def main() -> None:
    """Print the table, and the share that is saved."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--material", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--stories", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--encoding", choices=["exact", "small"], default="small")
    arguments = parser.parse_args()
    keep_freed_memory()
    seconds: dict[str, list[tuple[float, float]]] = {"apart": [], "together": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cache = make_cache(folder, arguments.material, arguments.stories, arguments.encoding)
        apart([config(cache, folder / "warm-up", objective, 2) for objective in OBJECTIVES])
        for number in range(arguments.rounds):
            for way, work in (("apart", apart), ("together", together)):
                output = folder / f"{way}-{number}"
                configs = [config(cache, output, objective, arguments.steps) for objective in OBJECTIVES]
                seconds[way].append(timed(lambda work=work, configs=configs: work(configs)))  # type: ignore[misc]
            require_same(folder / f"apart-{number}", folder / f"together-{number}")
    table = Table(f"{len(OBJECTIVES)} students, {arguments.steps} steps", "own s", "clock s")
    for way, found in seconds.items():
        table.add_row(way, *(f"{statistics.median(column):.1f}" for column in zip(*found, strict=True)))
    pairs = list(zip(seconds["together"], seconds["apart"], strict=True))
    own, clock = (1 - statistics.median(one[at] / other[at] for one, other in pairs) for at in (0, 1))
    Console().print(table, f"saved: {own:.1%} of the process's own seconds, {clock:.1%} by the clock; bound: 15%")


if __name__ == "__main__":
    main()

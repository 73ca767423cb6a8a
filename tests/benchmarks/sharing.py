"""Students that share one read against the same students in separate runs. The bound is 15 per cent less work.

    python -m tests.benchmarks.sharing --material ../shared/material [--steps 60] [--rounds 3] [--encoding small]
    python -m tests.benchmarks.sharing --material ../shared/material --teacher MODELS/gemma3-270m \
        --encoding exact --steps 4 --rounds 1

Teacher: stories260K over stories, all its layers; students: Llamas of 3 layers, 48 wide, one for each of four
objectives, on one thread. With `--teacher`, a model of tens of thousands of tokens over Dolly, its last layer alone;
students: Llamas with its tokenizer, 2 layers, 128 wide, two learning rates for each of two objectives, batches of 4
texts of up to 128 tokens.

Whole runs, set-up included and imports not, in turn in one process. Seconds are the process's own, so that what a
loader's thread does counts, and another program does not; those of the clock are beside them. The weights of both are
compared, and must be the same bits.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
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
TINY: dict[str, list[dict[str, Any]]] = {
    "ce+sra": [CE, {"loss": "sra"}],
    "ce+mta": [CE, MTA],
    "ce+kd": [CE, {"loss": "kd"}],
    "kd+mta": [{"loss": "kd"}, MTA],
}
LONGEST = 128  # tokens of a text over which a large teacher is asked
LARGE = {f"ce+{loss}, {lr}": (lr, [CE, {"loss": loss}]) for loss in ("kd", "sra") for lr in (1e-3, 5e-4)}


def make_stories(folder: Path, material: Path, texts: int, encoding: str) -> Path:
    """A cache of stories260K over the first texts, with every layer that an objective reads."""
    lines = (material / "text" / "stories" / "stories_A.jsonl").read_text(encoding="utf-8").splitlines()[:texts]
    path = folder / "stories.jsonl"
    path.write_text("".join(json.dumps({"text": json.loads(line)["text"]}) + "\n" for line in lines), encoding="utf-8")
    config = extraction(
        folder / "cache",
        material / "models" / "stories260K",
        path,
        corpus={"id": None, "prompt": None, "response": None, "text": "text"},
        teacher={"max_tokens": 256},
        states={"hidden": [1, 3, 5], "mass": [5], "dtype": "bfloat16", "encoding": encoding},
        batching={"unit_tokens": 65_536, "batch_tokens": 8_192},
    )
    return build_cache(config)


def make_dolly(folder: Path, material: Path, teacher: Path, texts: int, encoding: str) -> Path:
    """A cache of `teacher` over the first examples of Dolly: the final layer's states and masses."""
    lines = (material / "text" / "instruct" / "dolly_dev.jsonl").read_text(encoding="utf-8").splitlines()[:texts]
    path = folder / "dolly.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    config = extraction(
        folder / "cache",
        teacher,
        path,
        corpus={"id": None, "prompt": "prompt", "response": "output"},
        teacher={"max_tokens": LONGEST},
        states={"hidden": [-1], "mass": [-1], "dtype": "bfloat16", "encoding": encoding},
    )
    return build_cache(config)


def make_config(cache: Path, output: Path, size: tuple[int, int], steps: int, **values: Any) -> TrainingConfig:
    """A run of one student of some layers and width."""
    layers, width = size
    architecture = {
        "model_type": "llama",
        "hidden_size": width,
        "intermediate_size": width * 8 // 3,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "max_position_embeddings": 512,
        "tie_word_embeddings": True,
    }
    given = {
        "cache": cache,
        "output": output,
        "student": {"architecture": architecture, "tokenizer": "teacher", "max_tokens": 256},
        "steps": steps,
        "threads": 1,
    }
    return TrainingConfig.model_validate(given | values)


def make_configs(cache: Path, output: Path, steps: int, large: bool) -> list[TrainingConfig]:
    """Four runs."""
    if not large:
        runs = TINY.items()
        return [make_config(cache, output / name, (3, 48), steps, objective=objective) for name, objective in runs]
    return [
        make_config(cache, output / name, (2, 128), steps, objective=losses, optimizer={"lr": lr}, batch_size=4)
        for name, (lr, losses) in LARGE.items()
    ]


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
    for run in one.iterdir():
        left, right = (load_file(folder / run.name / "model" / "model.safetensors") for folder in (one, other))
        assert all(torch.equal(left[name], right[name]) for name in left | right), run.name


def main() -> None:
    """Print the table, and the share that is saved."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--material", type=Path, required=True)
    parser.add_argument("--teacher", type=Path)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--texts", type=int)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--encoding", choices=["exact", "small"], default="small")
    given = parser.parse_args()
    keep_freed_memory()
    seconds: dict[str, list[tuple[float, float]]] = {"apart": [], "together": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if given.teacher is None:
            cache = make_stories(folder, given.material, given.texts or 600, given.encoding)
        else:
            cache = make_dolly(folder, given.material, given.teacher, given.texts or 64, given.encoding)
        configs = partial(make_configs, cache, large=given.teacher is not None)
        apart(configs(folder / "warm-up", 1))
        for number in range(given.rounds):
            for way, work in (("apart", apart), ("together", together)):
                seconds[way].append(timed(partial(work, configs(folder / f"{way}-{number}", given.steps))))
            require_same(folder / f"apart-{number}", folder / f"together-{number}")
    table = Table(f"4 students, {given.steps} steps", "own s", "clock s")
    for way, found in seconds.items():
        table.add_row(way, *(f"{statistics.median(column):.1f}" for column in zip(*found, strict=True)))
    pairs = list(zip(seconds["together"], seconds["apart"], strict=True))
    own, clock = (1 - statistics.median(one[at] / other[at] for one, other in pairs) for at in (0, 1))
    Console().print(table, f"saved: {own:.1%} of the process's own seconds, {clock:.1%} by the clock; bound: 15%")


if __name__ == "__main__":
    main()

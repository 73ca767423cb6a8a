"""Real input, from corpus to student: stories260K as teacher, three students, every objective, three seeds.

    python -m tests.benchmarks.stories --material ../shared/material --out /tmp/stories [--only 'ce+mta*']

`same` and `cross` learn from the first nine tenths of stories_A.jsonl, with the teacher's tokenizer and with one of
characters and bytes. `dolly` learns Dolly's questions and answers, the teacher having been trained on them first, as
the papers do. Every teacher is extracted once; then each student trains at equal steps from equal initial weights, two
runs at a time on one thread each, through the command line as a user would. Ends with a table of held-out bits per byte
(mean and spread over seeds) and a picture for each. Run it again to go on where it stopped.
"""

import argparse
import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from tests.benchmarks.commands import run, write_config
from tests.benchmarks.rows import CE, ROWS, Row

TEACHER, CHARACTERS = "models/stories260K", "models/babyllama-byte361"
STORIES = "text/stories/stories_A.jsonl"
DOLLY, DOLLY_HELD_OUT = "text/instruct/dolly_dev.jsonl", "text/instruct/dolly_valid.jsonl"
TEACHER_STEPS = 300  # of stories260K on Dolly


def main() -> None:
    arguments = _arguments()
    out: Path = arguments.out
    pairs = [pair for pair in ROWS if pair in arguments.pairs]
    if {"same", "cross"} & set(pairs):
        lines = (arguments.material / STORIES).read_text(encoding="utf-8").splitlines()
        cut = len(lines) - len(lines) // 10
        texts = [json.loads(line)["text"] for line in lines]
        _extract(out / "stories", arguments.material / TEACHER, texts[:cut], texts[cut:])
    if "dolly" in pairs:
        train, held_out = _dolly(arguments.material / DOLLY), _dolly(arguments.material / DOLLY_HELD_OUT)
        _extract(out / "dolly-untaught", arguments.material / TEACHER, train, held_out)
        _extract(out / "dolly", _teacher_of_dolly(arguments), train, held_out)
    runs = [
        _training(arguments, pair, name, row, seed)
        for seed in range(arguments.seeds)  # one seed of everything first: an early look at every row
        for pair in pairs
        for name, row in ROWS[pair].items()
        if any(fnmatch(name, pattern) for pattern in arguments.only)
    ]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        list(pool.map(_train, runs))
    for pair in pairs:
        folders = [config["output"] for config in runs if Path(config["output"]).parent.name == pair]
        run("compare", *folders, "--picture", str(out / f"{pair}.png"))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--material", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pairs", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--only", nargs="+", default=["*"], help="patterns of rows")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    return parser.parse_args()


def _dolly(path: Path) -> list[str]:
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [f"{record['instruction']}\n{record['output']}" for record in records]


def _extract(folder: Path, teacher: Path, train: Iterable[str], held_out: Iterable[str]) -> None:
    """`folder` gets a cache, and the texts that were held out."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, texts in (("train", train), ("held_out", held_out)):
        lines = (json.dumps({"text": text}) + "\n" for text in texts)
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    states = {"hidden": [1, 2, 3, 4, "last"], "mass": ["last"], "top_k": {"k": 8}, "sampled": {"draws": 32}}
    config = {
        "output": str(folder / "cache"),
        "corpus": {"files": [str(folder / "train.jsonl")], "text": "text"},
        "teacher": {"model": str(teacher), "max_tokens": 256, "keep_embeddings": True},
        "states": states,
    }
    run("extract", write_config(folder / "extract.yaml", config))


def _teacher_of_dolly(arguments: argparse.Namespace) -> Path:
    """stories260K, trained further on Dolly with cross-entropy, three times as long as it takes to read it once."""
    folder: Path = arguments.out / "dolly-teacher"
    config = {
        "cache": str(arguments.out / "dolly-untaught" / "cache"),
        "output": str(folder),
        "student": {"model": str(arguments.material / TEACHER), "max_tokens": 256},
        "objective": [CE],
        "optimizer": {"lr": 1e-3, "min_lr": 1e-4, "warmup": 0.05},
        "steps": TEACHER_STEPS,
        "batch_size": 16,
        "evaluation": {"texts": str(arguments.out / "dolly-untaught" / "held_out.jsonl"), "every": TEACHER_STEPS},
    }
    _train(config)
    return folder / "model"


def _training(arguments: argparse.Namespace, pair: str, name: str, row: Row, seed: int) -> dict[str, Any]:
    material = arguments.out / ("dolly" if pair == "dolly" else "stories")
    student = {
        "architecture": {
            "model_type": "llama",
            "hidden_size": 48,
            "intermediate_size": 128,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "max_position_embeddings": 1024,
            "tie_word_embeddings": True,
        },
        "tokenizer": str(arguments.material / CHARACTERS) if pair == "cross" else "teacher",
        "max_tokens": 512 if pair == "cross" else 256,
        "append_eos": False,
    }
    return {
        "cache": str(material / "cache"),
        "output": str(arguments.out / pair / f"{name}-seed{seed}"),
        "student": student,
        "objective": row,
        "optimizer": {"lr": 4e-3, "min_lr": 4e-4, "warmup": 0.05},
        "seed": seed,
        "steps": arguments.steps,
        "batch_size": 16,
        "threads": 1,
        "log_every": 20,
        "checkpoint_every": 200,
        "evaluation": {"texts": str(material / "held_out.jsonl"), "every": max(1, arguments.steps // 2)},
    }


def _train(config: dict[str, Any]) -> None:
    run("train", write_config(Path(config["output"] + ".yaml"), config))


if __name__ == "__main__":
    main()

"""Do students of other chat formats learn from a teacher's conversations? Each loss beside cross-entropy, held out.

    python -m tests.benchmarks.conversations --material ../shared/material --models FOLDER --out /tmp/conversations

Two records of Dolly make a conversation of two turns. SmolLM2-135M-Instruct reads them in its own template, and teaches
`template`, a student with its tokenizer and Zephyr's template, and `plain`, one with stories260K's tokenizer and no
template. Gemma 3 270M, which has none either, reads them in the one that its config names, and teaches `gemma`, with
SmolLM2's tokenizer and template. FOLDER is what `fetch_models.py` made. Needs no Ray, and about an hour of two cores;
run it again to go on where it stopped.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.benchmarks.commands import write_config
from tests.benchmarks.rows import CE, KD, MTA, SRA_SOFT, TENTH_CE, Row

TEMPLATES = Path(__file__).parents[1] / "schemas/conversations/families"
STEPS, BATCH, RATES = 200, 4, (4e-3, 1e-3)
FIGURES = ("align/coverage", "align/coverage_min", "align/spans", "align/agreement", "align/pairs")  # at step 0
LONGEST = 1_000  # characters of a conversation
CONVERSATIONS = {"train": ("dolly_dev", 256), "held_out": ("dolly_valid", 64)}


@dataclass(frozen=True)
class Teacher:
    """A model, the template that it reads by if it has none, and the layers that are kept."""

    model: str
    hidden: list[int | str]
    template: str | None = None


TEACHERS = {
    "smollm2": Teacher("smollm2-135m-instruct", [24, 27, "last"]),
    "gemma": Teacher("gemma3-270m", [14, 16, "last"], str(TEMPLATES / "gemma3.jinja")),
}

ALM: dict[str, Any] = {"loss": "alm", "weight": 0.1}
LAYERS = {"student_layers": [1, 2, "last"]}  # of MTA
SIZE = {"intermediate_size": 176, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 4}
LLAMA = {"model_type": "llama", "hidden_size": 64, "max_position_embeddings": 1024, "tie_word_embeddings": True, **SIZE}


@dataclass(frozen=True)
class Student:
    """A student of random weights, the teacher whose conversations it learns, and by which losses."""

    teacher: str
    tokenizer: str  # `teacher`, or a model's name
    template: str | None
    max_tokens: int
    losses: dict[str, Row]


STUDENTS = {
    "plain": Student("smollm2", "stories260K", None, 768, {"ce": [CE], "sra": [CE, SRA_SOFT], "alm": [CE, ALM]}),
    "template": Student(
        "smollm2",
        "teacher",
        str(TEMPLATES / "zephyr.jinja"),
        320,
        {
            "ce": [CE],
            "kd": [TENTH_CE, KD],
            "sra": [CE, SRA_SOFT],
            "mta": [CE, MTA | LAYERS | {"teacher_layers": [24, 27, "last"]}],
            "alm": [CE, ALM],
        },
    ),
    "gemma": Student(
        "gemma",
        "smollm2-135m-instruct",
        None,
        320,
        {"ce": [CE], "sra": [CE, SRA_SOFT], "mta": [CE, MTA | LAYERS | {"teacher_layers": [14, 16, "last"]}]},
    ),
}


def main() -> None:
    arguments = _arguments()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, (source, count) in CONVERSATIONS.items():
        records = (arguments.material / f"text/instruct/{source}.jsonl").read_text(encoding="utf-8").splitlines()
        lines = [json.dumps(found) for found, _ in zip(_conversations(records), range(count), strict=False)]
        (arguments.out / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    with ThreadPoolExecutor(arguments.jobs) as pool:
        list(pool.map(lambda name: _extract(arguments, name), TEACHERS))
        runs = [(name, loss, rate) for rate in RATES for name in STUDENTS for loss in STUDENTS[name].losses]
        list(pool.map(lambda run: _train(arguments, *run), runs))
    for name in STUDENTS:
        _show(arguments, name)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--material", type=Path, required=True)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=2)
    return parser.parse_args()


def _conversations(lines: list[str]) -> Iterator[dict[str, Any]]:
    """Two records of Dolly each, of those that are short enough."""
    waiting = list[dict[str, str]]()
    for record in map(json.loads, lines):
        question = record["instruction"] + (f"\n\n{record['input']}" if record["input"] else "")
        if record["output"].strip() and len(question) + len(record["output"]) <= LONGEST // 2:
            waiting += [{"role": "user", "content": question}, {"role": "assistant", "content": record["output"]}]
        if len(waiting) == 4:
            yield {"messages": waiting}
            waiting = []


def _extract(arguments: argparse.Namespace, name: str) -> None:
    """In a process of its own, without Ray."""
    teacher, cache = TEACHERS[name], _cache(arguments, name)
    if (cache / "index.parquet").exists():
        return
    config = {
        "output": str(cache),
        "corpus": {"files": [str(arguments.out / "train.jsonl")], "conversations": {}},
        "teacher": {"model": str(arguments.models / teacher.model), "chat_template": teacher.template},
        "states": {"hidden": teacher.hidden, "mass": ["last"], "encoding": "exact"},
    }
    _run("tests.benchmarks.one_cache", write_config(cache.with_suffix(".yaml"), config))


def _train(arguments: argparse.Namespace, name: str, loss: str, rate: float) -> None:
    run, student = _folder(arguments, name, loss, rate), STUDENTS[name]
    if (run / "model" / "config.json").exists():
        return
    config = {
        "cache": str(_cache(arguments, student.teacher)),
        "output": str(run),
        "student": _student(arguments, student),
        "objective": student.losses[loss],
        "optimizer": {"lr": rate, "min_lr": rate / 10, "warmup": 0.05},
        "steps": STEPS,
        "batch_size": BATCH,
        "threads": 1,
        "log_every": 20,
        "checkpoint_every": STEPS,
        "evaluation": {"texts": str(arguments.out / "held_out.jsonl"), "conversations": {}, "every": STEPS},
    }
    _run("jobs.cli", "train", write_config(Path(f"{run}.yaml"), config))


def _student(arguments: argparse.Namespace, student: Student) -> dict[str, Any]:
    folders = {"teacher": "teacher", "stories260K": str(arguments.material / "models/stories260K")}
    tokenizer = folders.get(student.tokenizer, str(arguments.models / student.tokenizer))
    template = {} if student.template is None else {"chat_template": student.template}
    return {"architecture": LLAMA, "tokenizer": tokenizer, "max_tokens": student.max_tokens, **template}


def _show(arguments: argparse.Namespace, name: str) -> None:
    """Held-out bits per byte of answers and nats per token, by the peak learning rate."""
    table = Table("objective", *(f"lr {rate:g}" for rate in RATES), *FIGURES, title=name)
    for loss in STUDENTS[name].losses:
        runs = [_folder(arguments, name, loss, rate) for rate in RATES]
        measured = [json.loads((run / "run.json").read_text())["evaluation"] for run in runs]
        cells = [f"{found['target_bits_per_byte']:.3f} ({found['nats_per_token']:.3f})" for found in measured]
        aligned = json.loads((runs[0] / "metrics.jsonl").read_text().splitlines()[0])
        table.add_row(loss, *cells, *(f"{aligned[key]:.4f}" if key in aligned else "" for key in FIGURES))
    Console(width=150).print(table)


def _folder(arguments: argparse.Namespace, name: str, loss: str, rate: float) -> Path:
    folder: Path = arguments.out / "runs" / f"{name}-{loss}-{rate:g}"
    return folder


def _cache(arguments: argparse.Namespace, teacher: str) -> Path:
    folder: Path = arguments.out / f"{teacher}-train"
    return folder


def _run(module: str, *words: str) -> None:
    with Path(words[-1] + ".log").open("w") as log:
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run([sys.executable, "-m", module, *words], stdout=log, stderr=log, env=environment)
    if done.returncode:
        sys.exit(f"{' '.join(words)} failed; {words[-1]}.log says why")


if __name__ == "__main__":
    main()

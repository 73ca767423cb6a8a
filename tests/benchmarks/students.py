"""Do students notice how their teacher's states are kept? KD, SRA and MTA from caches that are exact, and ever smaller.

    python -m tests.benchmarks.students --material ../shared/material --models FOLDER --out /tmp/students [--pairs cut]

`stories`: stories260K teaches a student of random weights. `cut`: SmolLM2-135M teaches eight of its own thirty layers.
`gemma`: Gemma 3 270M teaches SmolLM2-135M, across tokenizers, so without KD. The last two learn Dolly. FOLDER is what
`fetch_models.py` made. Every encoding gets a cache of the same states; then each loss trains from each cache, all else
equal, and a table shows held-out bits per byte by encoding. Needs no Ray. Run it again to go on where it stopped.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from jobs.report.runs import load_run
from tests.benchmarks.commands import write_config
from tests.benchmarks.rows import CE, KD, MTA, SRA_SOFT, TENTH_CE, Row

PRESETS: dict[str, Any] = {name: name for name in ("exact", "careful", "small", "tiny")}
# A state of 64 numbers takes more bytes for its direction than one of 576: presets would be other rates.
RATES: dict[str, Any] = {"exact": "exact", "1/4": {"bits": 4}, "1/8": {"bits": 2}, "1/16": {"bits": 1}}
LOSSES: dict[str, Row] = {"kd": [TENTH_CE, KD], "sra": [CE, SRA_SOFT], "mta": [CE, MTA]}
KEPT_LAYERS = (0, 4, 8, 12, 17, 21, 25, 29)  # of SmolLM2's thirty, in its cut
HELD_OUT_STORIES = 200
DOLLY = {"prompt": "prompt", "response": "output"}


@dataclass(frozen=True)
class Pair:
    """A teacher, the layers that are kept of it, its corpus, and a student."""

    teacher: Path
    hidden: list[int | str]
    corpus: dict[str, Any]
    held_out: dict[str, Any]  # of `evaluation`
    student: dict[str, Any]
    training: dict[str, Any]
    losses: tuple[str, ...]
    encodings: dict[str, Any]  # `states.encoding` by name


def main() -> None:
    arguments = _arguments()
    arguments.out.mkdir(parents=True, exist_ok=True)
    pairs = {name: _pairs(arguments)[name]() for name in arguments.pairs}
    with ThreadPoolExecutor(arguments.jobs) as pool:
        list(
            pool.map(lambda job: _extract(*job), [(arguments, n, p, e) for n, p in pairs.items() for e in p.encodings])
        )
        runs = [
            (arguments, name, pair, loss, encoding, seed)
            for seed in range(arguments.seeds)
            for name, pair in pairs.items()
            for loss in pair.losses
            for encoding in pair.encodings
        ]
        list(pool.map(lambda run: _train(*run), runs))
    for name, pair in pairs.items():
        _show(arguments, name, pair)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--material", type=Path, required=True)
    parser.add_argument("--models", type=Path, default=Path())
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pairs", nargs="+", choices=["stories", "cut", "gemma"], default=["stories", "cut", "gemma"])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--limit", type=int, default=2000, help="samples to learn from")
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--jobs", type=int, default=2)
    return parser.parse_args()


def _pairs(arguments: argparse.Namespace) -> dict[str, Any]:
    return {
        "stories": lambda: _stories(arguments),
        "cut": lambda: _dolly(
            arguments, "smollm2-135m-instruct", [23, 26, "last"], _cut(arguments), ("kd", "sra", "mta")
        ),
        "gemma": lambda: _dolly(
            arguments, "gemma3-270m", [17, "last"], arguments.models / "smollm2-135m-instruct", ("sra", "mta")
        ),
    }


def _stories(arguments: argparse.Namespace) -> Pair:
    lines = (arguments.material / "text/stories/stories_A.jsonl").read_text(encoding="utf-8").splitlines()
    for name, some in (("train", lines[: arguments.limit]), ("held_out", lines[-HELD_OUT_STORIES:])):
        (arguments.out / f"stories-{name}.jsonl").write_text("\n".join(some) + "\n", encoding="utf-8")
    size = {"hidden_size": 48, "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4}
    architecture = {"model_type": "llama", "max_position_embeddings": 1024, "tie_word_embeddings": True, **size}
    return Pair(
        teacher=arguments.material / "models/stories260K",
        hidden=[2, 3, "last"],
        corpus={"files": [str(arguments.out / "stories-train.jsonl")], "text": "text"},
        held_out={"texts": str(arguments.out / "stories-held_out.jsonl")},
        student={"architecture": architecture, "tokenizer": "teacher", "append_eos": False},
        training={"optimizer": {"lr": 4e-3, "min_lr": 4e-4, "warmup": 0.05}},
        losses=("kd", "sra", "mta"),
        encodings=RATES,
    )


def _dolly(
    arguments: argparse.Namespace, teacher: str, hidden: list[int | str], student: Path, losses: tuple[str, ...]
) -> Pair:
    dolly = arguments.material / "text/instruct"
    return Pair(
        teacher=arguments.models / teacher,
        hidden=hidden,
        corpus={"files": [str(dolly / "dolly_dev.jsonl")], "limit": arguments.limit, **DOLLY},
        held_out={"texts": str(dolly / "dolly_valid.jsonl"), "field": "output", "limit": 100},
        student={"model": str(student)},
        training={"optimizer": {"lr": 1e-4, "min_lr": 1e-5, "warmup": 0.05}},
        losses=losses,
        encodings=PRESETS,
    )


def _cut(arguments: argparse.Namespace) -> Path:
    """SmolLM2 with KEPT_LAYERS alone."""
    folder: Path = arguments.out / "smollm2-cut"
    if not (folder / "model.safetensors").exists():
        from torch import nn
        from transformers import AutoModelForCausalLM, AutoTokenizer

        source = arguments.models / "smollm2-135m-instruct"
        model = AutoModelForCausalLM.from_pretrained(source)
        model.model.layers = nn.ModuleList(model.model.layers[layer] for layer in KEPT_LAYERS)
        model.config.num_hidden_layers = len(KEPT_LAYERS)
        model.config.layer_types = None
        AutoTokenizer.from_pretrained(source).save_pretrained(folder)
        model.save_pretrained(folder)
    return folder


def _extract(arguments: argparse.Namespace, name: str, pair: Pair, encoding: str) -> None:
    """In a process of its own, without Ray."""
    cache = _cache(arguments, name, encoding)
    if (cache / "index.parquet").exists():
        return
    gpu = arguments.device == "cuda"
    config = {
        "output": str(cache),
        "corpus": pair.corpus,
        "teacher": {"model": str(pair.teacher), "max_tokens": arguments.max_tokens, "device": arguments.device},
        "states": {"hidden": pair.hidden, "mass": ["last"], "encoding": pair.encodings[encoding]},
        "workers": {"gpus": 1 if gpu else 0},
    }
    _run("tests.benchmarks.one_cache", write_config(cache.with_suffix(".yaml"), config))


def _train(arguments: argparse.Namespace, name: str, pair: Pair, loss: str, encoding: str, seed: int) -> None:
    config = {
        "cache": str(_cache(arguments, name, encoding)),
        "output": str(_run_folder(arguments, name, loss, encoding, seed)),
        "student": pair.student | {"max_tokens": arguments.max_tokens},
        "objective": LOSSES[loss],
        **pair.training,
        "seed": seed,
        "steps": arguments.steps,
        "batch_size": arguments.batch,
        "threads": 1,
        "device": "cpu" if name == "stories" else arguments.device,
        "log_every": 20,
        "checkpoint_every": max(1, arguments.steps),
        "evaluation": pair.held_out | {"every": arguments.steps},
    }
    _run("jobs.cli", "train", write_config(Path(str(config["output"]) + ".yaml"), config))


def _run_folder(arguments: argparse.Namespace, name: str, loss: str, encoding: str, seed: int) -> Path:
    folder: Path = arguments.out / "runs" / f"{name}-{loss}-{_named(encoding)}-seed{seed}"
    return folder


def _cache(arguments: argparse.Namespace, name: str, encoding: str) -> Path:
    folder: Path = arguments.out / f"{name}-{_named(encoding)}"
    return folder


def _named(encoding: str) -> str:
    return encoding.replace("/", "-of-")


def _run(module: str, *words: str) -> None:
    with Path(words[-1] + ".log").open("w") as log:
        done = subprocess.run(
            [sys.executable, "-m", module, *words], stdout=log, stderr=log, env=os.environ | {"OMP_NUM_THREADS": "1"}
        )
    if done.returncode:
        sys.exit(f"{' '.join(words)} failed; {words[-1]}.log says why")


def _show(arguments: argparse.Namespace, name: str, pair: Pair) -> None:
    table = Table("held-out bits per byte", *pair.encodings, title=name)
    sizes = [_bytes_per_token(_cache(arguments, name, encoding)) for encoding in pair.encodings]
    table.add_row("bytes of hidden states per token", *(f"{size:.0f} (1/{sizes[0] / size:.1f})" for size in sizes))
    for loss in pair.losses:
        cells = []
        for encoding in pair.encodings:
            folders = [_run_folder(arguments, name, loss, encoding, seed) for seed in range(arguments.seeds)]
            values = [list(load_run(folder).values.values())[-1] for folder in folders]
            spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
            cells.append(f"{statistics.fmean(values):.4f}{spread}")
        table.add_row(loss, *cells)
        print(name, loss, *cells, flush=True)
    Console(width=140).print(table)


def _bytes_per_token(cache: Path) -> float:
    records = [json.loads(path.read_text()) for path in sorted(cache.glob("shards/*/shard.json"))]
    hidden = sum(
        f["bytes"] for r in records for name, f in r["files"].items() if name.startswith("states.zarr/hidden/")
    )
    return float(hidden / sum(record["tokens"] for record in records))


if __name__ == "__main__":
    main()

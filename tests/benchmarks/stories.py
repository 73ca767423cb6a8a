"""Real input, end to end: stories260K as teacher, two students, every objective, three seeds.

    python -m tests.benchmarks.stories --material ../shared/material --out /tmp/stories

Holds out the last tenth of stories_A.jsonl, extracts the teacher once, then trains each student at equal steps from
equal initial weights, two runs at a time on one thread each, through the command line as a user would. Ends with a
table of held-out bits per byte (mean and spread over seeds) and a picture. Run it again to go on where it stopped.
"""

import argparse
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml

STORIES, TEACHER, CHARACTERS = "text/stories/stories_A.jsonl", "models/stories260K", "models/babyllama-byte361"
CE: dict[str, Any] = {"loss": "ce"}
HALF_CE, TENTH_CE = CE | {"weight": 0.5}, CE | {"weight": 0.1}
KD, MTA = {"loss": "kd", "weight": 0.9}, {"loss": "mta"}
SRA = {"loss": "sra", "weight": 0.5}
# As the paper weighs it, L_span-KD sums a hundred spans a sample against one mean over tokens, and mass sits on the few
# spans that the last token attends to. Here the sum is a mean and counts a tenth, and its square root spreads the mass.
SRA_SOFT = {"loss": "sra", "mass_exponent": 0.5, "span_kd": 0.1, "span_kd_reduction": "mean"}

OBJECTIVES: dict[str, dict[str, list[dict[str, Any]]]] = {
    "same": {
        "ce": [CE],
        "ce+kd": [TENTH_CE, KD],
        "ce+mta": [CE, MTA],
        "ce+kd+mta": [TENTH_CE, KD, MTA],
        "ce+sra": [HALF_CE, SRA],
        "ce+sra-mean-kd": [HALF_CE, SRA | {"span_kd_reduction": "mean"}],
        "ce+sra-no-kd": [HALF_CE, SRA | {"span_kd": 0}],
        "ce+sra-soft": [CE, SRA_SOFT],
    },
    "cross": {
        "ce": [CE],
        "ce+sra": [HALF_CE, SRA],
        "ce+sra-mean-kd": [HALF_CE, SRA | {"span_kd_reduction": "mean"}],
        "ce+sra-no-kd": [HALF_CE, SRA | {"span_kd": 0}],
        "ce+sra-soft": [CE, SRA_SOFT],
        "ce+mta": [CE, MTA],
    },
}
# What they isolate shows in one seed: by how much L_span-KD's sum over spans outweighs everything else.
ONCE = {"ce+sra-mean-kd", "ce+sra-no-kd"}


def main() -> None:
    arguments = _arguments()
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    texts = _split(arguments.material / STORIES, out)
    _run("extract", _write(out / "extract.yaml", _extraction(arguments.material / TEACHER, texts, out / "cache")))
    runs = []
    for pair in OBJECTIVES:
        for name, objective in OBJECTIVES[pair].items():
            for seed in range(1 if name in ONCE else arguments.seeds):
                runs.append(_training(arguments, pair, name, objective, seed))
    # One seed of everything first: an early look at every row.
    runs.sort(key=lambda config: config["seed"])
    with ThreadPoolExecutor(arguments.jobs) as pool:
        list(pool.map(lambda config: _run("train", _write(Path(config["output"] + ".yaml"), config)), runs))
    for pair in OBJECTIVES:
        folders = [config["output"] for config in runs if Path(config["output"]).parent.name == pair]
        _run("compare", *folders, "--picture", str(out / f"{pair}.png"))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--material", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    return parser.parse_args()


def _split(stories: Path, out: Path) -> tuple[Path, Path]:
    lines = stories.read_text(encoding="utf-8").splitlines(keepends=True)
    cut = len(lines) - len(lines) // 10
    train, held_out = out / "train.jsonl", out / "held_out.jsonl"
    train.write_text("".join(lines[:cut]), encoding="utf-8")
    held_out.write_text("".join(lines[cut:]), encoding="utf-8")
    return train, held_out


def _extraction(teacher: Path, texts: tuple[Path, Path], cache: Path) -> dict[str, Any]:
    return {
        "output": str(cache),
        "corpus": {"files": [str(texts[0])], "text": "text"},
        "teacher": {"model": str(teacher), "max_tokens": 256},
        "states": {"hidden": [2, 3, "last"], "mass": ["last"]},
    }


def _training(
    arguments: argparse.Namespace, pair: str, name: str, objective: list[dict[str, Any]], seed: int
) -> dict[str, Any]:
    own = str(arguments.material / CHARACTERS)
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
        "tokenizer": "teacher" if pair == "same" else own,
        "max_tokens": 256 if pair == "same" else 512,
        "append_eos": False,
    }
    return {
        "cache": str(arguments.out / "cache"),
        "output": str(arguments.out / pair / f"{name}-seed{seed}"),
        "student": student,
        "objective": objective,
        "optimizer": {"lr": 4e-3, "min_lr": 4e-4, "warmup": 0.05},
        "seed": seed,
        "steps": arguments.steps,
        "batch_size": 16,
        "threads": 1,
        "log_every": 20,
        "checkpoint_every": 200,
        "evaluation": {"texts": str(arguments.out / "held_out.jsonl"), "every": arguments.steps // 4},
    }


def _write(path: Path, config: dict[str, Any]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(json.loads(json.dumps(config)), sort_keys=False))
    return str(path)


def _run(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "jobs.cli", *arguments], check=True)


if __name__ == "__main__":
    main()

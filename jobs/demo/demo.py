"""`stillroom demo`: the whole way on a toy, offline. Corpus, teacher, cache, students, comparison.

Every step writes what the next one reads, and the configs it writes are run through the code of `stillroom extract` and
`stillroom train`. A second call finds everything done, shows the table again and costs seconds.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from jobs.demo.corpus import stories
from schemas.console import make_console
from schemas.storage.atomic import commit_folder, folder_beside
from schemas.storage.writable import require_writable

# The teacher learns from all stories, the students from the first few of them: its states must carry over the rest.
TEACHER_STORIES, STUDENT_STORIES, HELD_OUT = 5_000, 1_200, 200
STEPS, BATCH = 120, 16

ABOUT = """
Fewer bits per byte are better. The students `pieces-…` have a tokenizer of their own, the others the teacher's.

What is toy about this: a grammar wrote the stories, so every student reaches its floor in a few hundred steps, and 120
show who gets there sooner. The teacher has a million parameters and learned for a minute, the students have a fifth of
that, and one seed says little. What is not toy: Ray, the cache, the alignment between two tokenizers, the losses and
the measure are what a real run uses.

For a real teacher copy {extract} and change four lines:
    teacher.model   a hub id or a model folder
    corpus.files    your JSONL or Parquet (and `text`, or `prompt` and `response`)
    output          another cache folder; name it as `cache` in the students' configs
    states.hidden   [last] is enough for SRA; MTA on these students reads every third: of 24 layers, [8, 16, last]
On a machine with a GPU set `workers.gpus: 1` as well. Then `stillroom extract` that copy, and `stillroom train` a copy
of each student's config. What `make` has installed is called so after `source .venv/bin/activate`.
"""


def run_demo(folder: Path) -> None:
    """Do what is not done yet below `folder`, then print the table and the paths of all that was written."""
    require_writable(folder)
    folder = folder.absolute()
    console = make_console()
    console.rule("corpus, tokenizers, teacher")
    held_out = _make_corpus(folder)
    _make_teacher(folder)
    configs = write_configs(folder)

    from jobs.compare import compare_runs
    from jobs.extract import run_extraction
    from jobs.train import run_training
    from trainer.evaluation.bits_per_byte import evaluate, load_for_evaluation

    console.rule("cache: the teacher runs once")
    run_extraction(folder / "extract.yaml", [])
    for config in configs:
        console.rule(f"student: {config.stem}")
        run_training(config, [])
    model, tokenizer = load_for_evaluation(folder / "teacher")
    teacher = evaluate(model, tokenizer, held_out, max_tokens=512)

    console.rule("comparison")
    picture = folder / "curves.png"
    runs = [folder / "runs" / config.stem for config in configs]
    console.print(compare_runs(runs, picture, {"the teacher itself": teacher.bits_per_byte}))
    console.print(ABOUT.format(extract=folder / "extract.yaml"), soft_wrap=True)
    console.print("Written:")
    made = ("corpus", "teacher", "pieces", "extract.yaml", "cache", "cache.tokens")
    for path in [*(folder / name for name in made), *configs, folder / "runs", picture]:
        console.print(f"  {path}", soft_wrap=True)


def _make_corpus(folder: Path) -> list[str]:
    """Write the students' and the held-out stories; return the latter."""
    texts = stories(HELD_OUT + STUDENT_STORIES)
    for name, part in (("held_out", texts[:HELD_OUT]), ("train", texts[HELD_OUT:])):
        path = folder / "corpus" / f"{name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in part), encoding="utf-8")
    return texts[:HELD_OUT]


def _make_teacher(folder: Path) -> None:
    if (folder / "teacher").exists() and (folder / "pieces").exists():
        return
    from jobs.demo.teacher import byte_level_tokenizer, sentencepiece_tokenizer, train_teacher

    texts = stories(HELD_OUT + TEACHER_STORIES)[HELD_OUT:]
    if not (folder / "teacher").exists():
        train_teacher(folder / "teacher", byte_level_tokenizer(texts[:STUDENT_STORIES]), texts)
    with folder_beside(folder / "pieces") as pieces:
        sentencepiece_tokenizer(texts[:STUDENT_STORIES]).save_pretrained(pieces)
        commit_folder(pieces, folder / "pieces")


def write_configs(folder: Path) -> list[Path]:
    """Write extract.yaml and one config per student; return the latter."""
    _write(folder / "extract.yaml", "The demo's cache: stillroom extract THIS", _extraction(folder))
    ce = {"loss": "ce"}
    mta = {"loss": "mta", "word_layers": 1}
    # From random weights a student needs all of its CE. The last token's attention rests on few tokens: the square root
    # of the masses spreads the weight. Where a word is several pieces, its span logits say more than the next word:
    # a light touch.
    sra = {"loss": "sra", "mass_exponent": 0.5, "span_kd": 0.1, "span_kd_reduction": "mean"}
    students: dict[str, tuple[str, Sequence[dict[str, Any]]]] = {
        "ce": ("teacher", [ce]),
        "ce+mta": ("teacher", [ce, mta]),
        "pieces-ce": (str(folder / "pieces"), [ce]),
        "pieces-ce+sra": (str(folder / "pieces"), [ce, sra]),
    }
    paths = []
    for name, (tokenizer, objective) in students.items():
        paths.append(folder / f"{name}.yaml")
        content = _training(folder, name, tokenizer, objective)
        _write(paths[-1], "A student of the demo: stillroom train THIS", content)
    return paths


def _extraction(folder: Path) -> dict[str, Any]:
    return {
        "output": str(folder / "cache"),
        "corpus": {"files": [str(folder / "corpus" / "train.jsonl")], "text": "text"},
        "teacher": {"model": str(folder / "teacher"), "max_tokens": 256},
        "states": {"hidden": [1, 3, "last"], "mass": ["last"]},  # exactly what the losses below read
        "batching": {"unit_tokens": 16_384},
    }


def _training(folder: Path, name: str, tokenizer: str, objective: Sequence[dict[str, Any]]) -> dict[str, Any]:
    architecture = {
        "model_type": "llama",
        "hidden_size": 64,
        "intermediate_size": 160,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "max_position_embeddings": 256,
        "tie_word_embeddings": True,
    }
    return {
        "cache": str(folder / "cache"),
        "output": str(folder / "runs" / name),
        "student": {"architecture": architecture, "tokenizer": tokenizer, "max_tokens": 256},
        "objective": list(objective),
        "optimizer": {"lr": 4e-3},
        "steps": STEPS,
        "batch_size": BATCH,
        "evaluation": {"texts": str(folder / "corpus" / "held_out.jsonl"), "every": STEPS // 10},
    }


def _write(path: Path, title: str, content: dict[str, Any]) -> None:
    header = f"# {title}\n# Written anew by every `stillroom demo`: copy it, and give the copy another output.\n"
    path.write_text(header + yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100), encoding="utf-8")

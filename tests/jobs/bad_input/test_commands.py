"""What the other commands refuse, one message each."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.jobs.bad_input.breaking import (
    refuse,
)


def remove(folder: Path) -> list[str]:
    shutil.rmtree(folder)
    return []


def flip(path: Path) -> list[str]:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return []


def compare_bytes(here: Path) -> list[str]:
    (here / "run.json").write_bytes(b"\xff")
    return ["compare", str(here)]


def picture_over_a_folder(here: Path) -> list[str]:
    (here / "x.png").mkdir()
    return ["compare", str(here), "--picture", str(here / "x.png")]


def generation(here: Path) -> list[str]:
    config = {"cache": str(here / "cache"), "model": str(here / "teacher"), "max_new_tokens": 4, "device": "cpu"}
    config["output"] = str(here / "corpus.jsonl" / "o.jsonl")
    (here / "generate.yaml").write_text(yaml.safe_dump(config))
    return ["generate", str(here / "generate.yaml")]


COMMANDS: dict[str, tuple[Callable[[Path], list[str]], str]] = {
    "no such config": (lambda here: ["train", str(here / "no.yaml")], "no.yaml"),
    "config is not YAML": (lambda here: ["extract", str(here / "teacher" / "model.safetensors")], "model.safetensors"),
    "override without a value": (
        lambda here: ["train", str(here / "ok.yaml"), "--set", "seed"],
        "--set 'seed': write it as",
    ),
    "inspect no cache": (lambda here: ["inspect", str(here)], "not a stillroom cache"),
    "inspect a sample that is not there": (lambda here: ["inspect", str(here / "cache"), "--sample", "x"], "'x'"),
    "verify no cache": (lambda here: ["verify", str(here)], "not a stillroom cache"),
    "verify damage": (
        lambda here: flip(here / "cache/shards/00000/states.zarr/hidden/1/c/0/0") or ["verify", str(here / "cache")],
        "checksum",
    ),
    "reindex without a shard": (
        lambda here: remove(here / "cache/shards/00000") or ["reindex", str(here / "cache")],
        "00000",
    ),
    "reindex damage": (
        lambda here: flip(here / "cache/shards/00000/samples.arrow") or ["reindex", str(here / "cache")],
        "checksum",
    ),
    "evaluate no model": (
        lambda here: ["evaluate", str(here), "--text", str(here / "corpus.jsonl")],
        "not a model folder",
    ),
    "evaluate a model of too long a name": (
        lambda here: ["evaluate", "x" * 300, "--text", str(here / "corpus.jsonl")],
        "File name too long",
    ),
    "evaluate no text": (lambda here: ["evaluate", str(here / "teacher"), "--text", str(here / "no.txt")], "no.txt"),
    "compare no runs": (lambda here: ["compare", str(here)], "run.json"),
    "compare runs that are not text": (
        compare_bytes,
        "run.json is damaged",
    ),
    "a picture not named PNG": (
        lambda here: ["compare", str(here), "--picture", "x.xyz"],
        "x.xyz: the picture is a",
    ),
    "a picture that is a folder": (
        picture_over_a_folder,
        "x.png is a folder",
    ),
    "a picture below a file": (
        lambda here: ["compare", str(here), "--picture", str(here / "corpus.jsonl" / "x.png")],
        "corpus.jsonl is a file",
    ),
    "generate to below a file": (
        generation,
        "corpus.jsonl is a file",
    ),
    "schema of nothing": (lambda here: ["schema", "student"], "'student'"),
}


@pytest.mark.parametrize("case", COMMANDS)
def test_commands_refuse(
    here: Path, case: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, said = COMMANDS[case]
    (here / "ok.yaml").write_text("cache: a\n")
    refuse(arguments(here), said, monkeypatch, capsys)

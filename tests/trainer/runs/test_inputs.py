"""What a run reads anew when it goes on must be what it began with: its tokenizer, and what is held out."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from schemas.configs.training import TrainingConfig
from schemas.errors import RunError
from schemas.models.hashes import hash_tokenizer
from tests.caches import small_cache, write_corpus
from tests.crash import interrupt
from tests.tiny import TEXTS, tiny_llama, tiny_tokenizer
from trainer.runs.inputs import read_inputs, require_same_inputs
from trainer.runs.train import train


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    return small_cache(folder)


@pytest.fixture
def run(cache: Path, tmp_path: Path) -> TrainingConfig:
    """A student with a tokenizer of its own, measured on four texts."""
    student = tmp_path / "student"
    tiny_llama(student, tiny_tokenizer(student, "bytelevel"), hidden=16, layers=1, heads=2)
    write_corpus(tmp_path / "held.jsonl", TEXTS[:4])
    base: dict[str, Any] = {
        "cache": cache,
        "output": tmp_path / "run",
        "student": {"model": str(student), "max_tokens": 64},
    }
    base |= {"steps": 4, "batch_size": 2, "threads": 1, "device": "cpu", "checkpoint_every": 2, "log_every": 1}
    return TrainingConfig.model_validate(base | {"evaluation": {"texts": tmp_path / "held.jsonl", "every": 1}})


def other_end(folder: Path) -> None:
    path = folder / "student" / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token": "<pad>"}))


def fewer_merges(folder: Path) -> None:
    path = folder / "student" / "tokenizer.json"
    content = json.loads(path.read_text())
    content["model"]["merges"] = content["model"]["merges"][:-5]
    path.write_text(json.dumps(content))


def other_texts(folder: Path) -> None:
    write_corpus(folder / "held.jsonl", TEXTS[4:8])


CHANGES = [(other_end, "student.tokenizer"), (fewer_merges, "student.tokenizer"), (other_texts, "evaluation")]


@pytest.mark.parametrize(("change", "field"), CHANGES)
def test_a_run_does_not_go_on_with_others(
    run: TrainingConfig, tmp_path: Path, change: Callable[[Path], None], field: str
) -> None:
    interrupt(run, 3)
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    kept = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path not in before}
    change(tmp_path)
    place = {"student.tokenizer": tmp_path / "student", "evaluation": tmp_path / "held.jsonl"}[field]
    said = rf"step-00000002 was made with other contents of {field} \({place}\); put back .*\n  {field}: found \"\w+…"
    with pytest.raises(RunError, match=said):
        train(run)
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before
    for path, content in kept.items():
        path.write_bytes(content)
    assert not train(run).already_done


def test_a_run_without_a_checkpoint_begins_with_what_is_there_now(run: TrainingConfig, tmp_path: Path) -> None:
    interrupt(run, 1)
    for change, _ in CHANGES:
        change(tmp_path)
    train(run)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["inputs"]["student.tokenizer"] == hash_tokenizer(tmp_path / "student")
    assert record["inputs"]["evaluation"] == read_inputs(run, run.caches[0]).hashes["evaluation"]


def test_a_run_of_an_earlier_version_goes_on_as_before_and_nothing_is_claimed_of_it(
    run: TrainingConfig, tmp_path: Path
) -> None:
    interrupt(run, 3)
    path = tmp_path / "run" / "run.json"
    record = json.loads(path.read_text())
    assert record.pop("inputs").keys() == {"student.tokenizer", "evaluation"}
    path.write_text(json.dumps(record))
    assert not train(run).already_done
    assert json.loads(path.read_text())["inputs"] is None


def test_the_teachers_tokenizer_has_its_hash_in_the_cache(run: TrainingConfig) -> None:
    student = {"architecture": {"model_type": "llama"}, "tokenizer": "teacher"}
    asked = TrainingConfig.model_validate(run.model_dump() | {"student": student, "evaluation": None})
    inputs = read_inputs(asked, asked.caches[0])
    assert inputs.hashes == {} and inputs.held_out is None


def test_both_are_named_where_both_differ(run: TrainingConfig) -> None:
    inputs = read_inputs(run, run.caches[0])
    require_same_inputs(run, inputs.hashes, inputs, Path("step-2"))
    require_same_inputs(run, {"evaluation": "0"}, inputs, None)
    named = f"student.tokenizer ({run.student.model}) and evaluation ({run.evaluation and run.evaluation.texts})"
    with pytest.raises(RunError, match=re.escape(f"step-2 was made with other contents of {named}; put back")):
        require_same_inputs(run, {"student.tokenizer": "0", "evaluation": "0"}, inputs, Path("step-2"))

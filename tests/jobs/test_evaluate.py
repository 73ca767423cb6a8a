"""`stillroom evaluate`: rows of one table are measured alike, and can be told apart on 80 columns."""

import json
import re
import shutil
from pathlib import Path

import pytest

from jobs.evaluate import show_evaluations
from schemas.errors import ModelError, RunError
from schemas.storage.file_record import list_files
from tests.tiny import TEXTS, tiny_bert, tiny_llama, tiny_tokenizer
from trainer.evaluation.bits_per_byte import evaluate
from trainer.evaluation.held_out_texts import read_texts
from trainer.evaluation.metrics.bits_per_byte import METRIC


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models of one long common path, one of them a run's of short samples; and texts."""
    folder = tmp_path_factory.mktemp("models") / "a-folder-with-a-name-that-fills-most-of-a-terminal" / "experiments"
    tokenizer = tiny_tokenizer(folder / "tokenizer", "bytelevel")
    tiny_llama(folder / "a-student-that-was-trained-with-a-rate-of-1e-3-and-seed-0", tokenizer)
    tiny_llama(folder / "a-student-that-was-trained-with-a-rate-of-1e-4-and-seed-0" / "model", tokenizer, seed=1)
    record = {"format": "stillroom-run", "version": 1, "fingerprint": "f", "steps": 1, "finished": True}
    record |= {"identity": {"student": {"max_tokens": 16}}}
    run = folder / "a-student-that-was-trained-with-a-rate-of-1e-4-and-seed-0" / "run.json"
    run.write_text(json.dumps(record))
    lines = [json.dumps({"text": text}) for text in TEXTS if text.isascii()]
    (folder / "texts.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def models(folder: Path) -> list[Path]:
    return sorted(folder.glob("a-student*"))


def test_rows_of_one_table_are_measured_in_windows_of_one_length(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    show_evaluations(models(folder), METRIC, read_texts(folder / "texts.jsonl"))
    said = capsys.readouterr().out
    texts = [text for text in TEXTS if text.isascii()]
    tokenizer = tiny_tokenizer(folder / "tokenizer", "bytelevel")
    plain = tiny_llama(folder / "again", tokenizer)
    found = evaluate(plain, tokenizer, texts, 16)
    assert found.unscored_bytes and said.count("Unscored are bytes of first tokens: without a BOS, ") == 1
    assert f"{found.bits_per_byte:.4f}" in said and f"{found.tokens:,}" in said
    assert f"{len(texts)} texts, in windows of 16 tokens, the shortest of these models' own" in said
    table = said.split(f"{len(texts)} texts")[0].splitlines()
    assert max(map(len, table)) <= 80 and len([line for line in table if re.search(r"\d\.\d{4}", line)]) == 2
    assert "…3-and-seed-0" in said and "…4-and-seed-0" in said


def test_a_window_that_was_asked_for_is_every_models(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show_evaluations(models(folder), METRIC, read_texts(folder / "texts.jsonl", limit=5), 32)
    assert "5 texts, in windows of 32 tokens\n" in capsys.readouterr().out


@pytest.mark.parametrize("student", [None, {}, {"max_tokens": "x"}, {"max_tokens": 1}])
def test_a_run_that_does_not_say_where_it_cut_is_refused(folder: Path, tmp_path: Path, student: object) -> None:
    shutil.copytree(models(folder)[1], tmp_path / "run")
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    (tmp_path / "run" / "run.json").write_text(json.dumps(record | {"identity": {"student": student}}))
    with pytest.raises(RunError, match=r"run\.json is damaged: its identity has no student\.max_tokens"):
        show_evaluations([tmp_path / "run"], METRIC, ["a text"])


def test_a_model_that_was_altered_after_its_run_is_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(models(folder)[1], tmp_path / "run")
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    files = {name: file.model_dump() for name, file in list_files(tmp_path / "run" / "model").items()}
    (tmp_path / "run" / "run.json").write_text(json.dumps(record | {"version": 2, "finished": True, "model": files}))
    show_evaluations([tmp_path / "run"], METRIC, ["a text"])
    weights = tmp_path / "run" / "model" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-3] ^= 1
    weights.write_bytes(content)
    with pytest.raises(RunError, match=r"model\.safetensors does not have its checksum"):
        show_evaluations([tmp_path / "run"], METRIC, ["a text"])


def test_a_sentence_encoder_is_measured_by_pairs(tmp_path: Path) -> None:
    tiny_bert(tmp_path, tiny_tokenizer(tmp_path, "wordpiece"))
    with pytest.raises(ModelError, match="lacks"):
        show_evaluations([tmp_path], METRIC, TEXTS)
    (tmp_path / "modules.json").write_text("[]")
    with pytest.raises(ModelError, match=r"is a sentence encoder: `--pairs` measures one, not `--text`$"):
        show_evaluations([tmp_path], METRIC, TEXTS)

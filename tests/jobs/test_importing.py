"""`stillroom import` says what it has made, and what it has left out."""

import json
from pathlib import Path

import pytest

from jobs.importing import run
from tests.corpora import write_lines
from tests.pipeline.importing.foreign import UNSPELT, distillkit_rows
from tests.tiny import TEXTS, tiny_llama, tiny_tokenizer


def test_it_says_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_llama(tmp_path / "teacher", tiny_tokenizer(tmp_path / "teacher", "bpe", 144), hidden=8, layers=1, heads=2)
    rows = distillkit_rows(tmp_path / "teacher", TEXTS[:3])
    rows[2]["input_ids"][3] = UNSPELT
    file = write_lines(tmp_path / "rows.jsonl", [*rows, rows[0]])
    said = {"output": str(tmp_path / "cache"), "layout": "distillkit", "files": [str(file)]}
    said |= {"teacher": {"model": str(tmp_path / "teacher")}, "unspelt": "skip"}  # type: ignore[dict-item]
    (tmp_path / "import.yaml").write_text(json.dumps(said))
    run(tmp_path / "import.yaml", ["unit_tokens=1000"])
    found = capsys.readouterr().out
    assert found.startswith("2 samples, ") and "top_k/ids, top_k/codes, top_k/scales" in found
    assert "left out: 1 samples that are there twice" in found
    assert "left out: 1 samples that have no text, or rows of other tokens" in found
    assert f"the first of them: {file}:3: no text has its tokens" in found

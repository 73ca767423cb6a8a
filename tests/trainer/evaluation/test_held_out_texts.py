"""Held-out texts from any file of records or lines, and what is wrong with one by its line."""

import gzip
import json
from pathlib import Path

import pytest

from schemas.errors import CorpusError
from trainer.evaluation.held_out_texts import read_texts


def test_reading_texts(tmp_path: Path) -> None:
    records = tmp_path / "texts.jsonl"
    records.write_text(
        '{"body": "one"}\n\n{"body": " "}\n{"body": "zwei ü\\n2"}\n{"body": "three"}\n', encoding="utf-8"
    )
    assert read_texts(records, "body") == ["one", "zwei ü\n2", "three"]
    assert read_texts(records, "body", limit=2) == ["one", "zwei ü\n2"]
    packed = tmp_path / "texts.jsonl.gz"
    packed.write_bytes(gzip.compress(records.read_bytes()))
    assert read_texts(packed, "body") == read_texts(records, "body")
    plain = tmp_path / "texts.txt"
    plain.write_bytes(b"first line\r\n\n second \n")
    assert read_texts(plain) == ["first line", " second "]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"text": "a"}\n{"text": ', r"bad\.jsonl:2: not JSON"),
        (b'["a"]\n', r"bad\.jsonl:1: a record is a JSON object, this is a list"),
        (b'{"story": "a"}\n', r"bad\.jsonl:1: no field 'text'; available: 'story'"),
        (b'{"text": 3}\n', r"bad\.jsonl:1: field 'text' is a number, not a string"),
        (b'{"text": "\xff"}\n', r"bad\.jsonl:1: byte 11 is not UTF-8"),
        (b"\n\n", r"bad\.jsonl holds no text"),
        (b'{"text": "a"}\n{"text": "ab\\ud83d"}\n', r"bad\.jsonl:2: field 'text' .*surrogate, \\ud83d, at character 2"),
        (b"[" * 100_000, r"bad\.jsonl:1: nested too deeply"),
    ],
)
def test_bad_texts_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_bytes(content)
    with pytest.raises(CorpusError, match=message):
        read_texts(path)


def test_missing_and_damaged_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"cannot read .*none\.jsonl: No such file"):
        read_texts(tmp_path / "none.jsonl")
    whole = gzip.compress(json.dumps({"text": "a" * 1000}).encode())
    (tmp_path / "cut.jsonl.gz").write_bytes(whole[:-12])
    with pytest.raises(CorpusError, match=r"cut\.jsonl\.gz"):
        read_texts(tmp_path / "cut.jsonl.gz")
    (tmp_path / "flipped.jsonl.gz").write_bytes(whole[:10] + b"\xff" + whole[11:])  # deflate has no such block
    with pytest.raises(CorpusError, match=r"flipped\.jsonl\.gz"):
        read_texts(tmp_path / "flipped.jsonl.gz")


@pytest.mark.parametrize("name", ["held.jsonl.bak", "held.txt", "held", "held.txt.gz"])
def test_a_plain_text_has_no_field(tmp_path: Path, name: str) -> None:
    """Otherwise the lines of a misnamed file of records would be measured, their braces and keys as well."""
    path = tmp_path / name
    path.write_bytes(b'{"body": "one"}\n' if not name.endswith(".gz") else gzip.compress(b"one\n"))
    said = rf"{name} is read as plain text, .* has no field 'body': records stand in files .* end in .*\.jsonl, "
    with pytest.raises(CorpusError, match=said):
        read_texts(path, "body")
    assert read_texts(path) == read_texts(path, "text") == ["one" if name.endswith(".gz") else '{"body": "one"}']

"""A file's format by the end of its name, in any case, compressed or not."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest

from schemas.errors import ConfigError, CorpusError
from schemas.texts.format import FORMATS, Format, Record, Source, find_format, known_suffixes
from schemas.texts.formats import json_lines
from schemas.texts.records import read_records

NAMES = {
    "a.jsonl": "json_lines",
    "a.JSON": "json_lines",
    "a.ndjson.xz": "json_lines",
    "a.csv": "csv",
    "a.b.TSV.Gz": "tsv",
    "a.parquet": "parquet",
    "a.feather": "arrow",
    ".jsonl": "json_lines",
    "a.jsonl.txt": None,
    "a.gz": None,
    "jsonl": None,
    "a.csv.gz.bz2": None,
}


@pytest.mark.parametrize(("name", "found"), NAMES.items())
def test_by_the_end_of_a_name(name: str, found: str | None) -> None:
    format_ = find_format(Path("folder.csv", name))
    assert (None if format_ is None else format_.name) == found


@pytest.mark.parametrize("name", ["a.parquet.zst", "a.ARROW.gz"])
def test_a_table_that_is_read_by_place_is_not_read_compressed(name: str) -> None:
    with pytest.raises(
        CorpusError, match=rf"^{name}: a (parquet|arrow) file cannot be read through \.(zst|gz); unpack"
    ):
        find_format(Path(name))


def test_messages_name_every_suffix_once() -> None:
    suffixes = known_suffixes().split(", ")
    assert len(suffixes) == len(set(suffixes)) == sum(len(format_.suffixes) for format_ in FORMATS.values())
    assert {".jsonl", ".csv", ".tsv", ".parquet", ".arrow"} <= set(suffixes)


class Chat(Format):
    name, compressible = "chat", True

    def __init__(self, *suffixes: str, read: Callable[[Source], Iterator[tuple[int, Record]]] | None = None):
        self.suffixes, self._read = suffixes, read

    def read(self, source: Source) -> Iterator[tuple[int, Record]]:
        assert self._read is not None
        return self._read(source)


@pytest.mark.parametrize("suffix", ["", ".", "chat", ".Chat", ".gz", ".chat.zst"])
def test_a_suffix_is_the_end_of_a_name(suffix: str) -> None:
    assert FORMATS.check is not None
    FORMATS.check(Chat(".chat"))
    with pytest.raises(ValueError, match=f"^its suffix {suffix!r} is not the end of a file's name, as '.jsonl' is"):
        FORMATS.check(Chat(".chat", suffix))


def test_a_format_of_wrong_form_is_refused() -> None:
    assert FORMATS.check is not None
    with pytest.raises(ValueError, match=r"^it is the class Chat, not an object of schemas\.texts\.format\.Format$"):
        FORMATS.check(cast(Format, Chat))
    chat = Chat()
    chat.suffixes = cast(tuple[str, ...], ".chat")
    with pytest.raises(ValueError, match=r"^its `suffixes`: Input should be a valid tuple$"):
        FORMATS.check(chat)


def test_the_longer_suffix_says_more(monkeypatch: pytest.MonkeyPatch) -> None:
    chat = Chat(".chat.jsonl")
    monkeypatch.setitem(FORMATS.__dict__, "_found", {"json_lines": json_lines.FORMAT, "chat": chat})
    assert find_format(Path("a.chat.jsonl.gz")) is chat
    assert find_format(Path("a.jsonl")) is json_lines.FORMAT


def test_a_suffix_is_of_one_format() -> None:
    """Otherwise another's package might read every corpus in place of ours."""
    assert FORMATS.distinct == "suffixes"


def test_what_a_package_raises_names_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def read(source: Source) -> Iterator[tuple[int, Record]]:
        yield 1, {"text": "one"}
        raise KeyError("turn")

    (tmp_path / "a.chat").write_bytes(b"one")
    monkeypatch.setitem(FORMATS.__dict__, "_found", {"chat": Chat(".chat", read=read)})
    monkeypatch.setattr(FORMATS, "_packages", {"chat": "talk 1.0"})
    records = read_records(tmp_path / "a.chat")
    assert next(records) == (1, {"text": "one"})
    with pytest.raises(ConfigError, match=r"^the record format 'chat' of talk 1.0 failed: KeyError: 'turn'; mend"):
        next(records)

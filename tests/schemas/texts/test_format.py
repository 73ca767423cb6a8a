"""A file's format by the end of its name, in any case, compressed or not."""

from pathlib import Path

import pytest

from schemas.errors import CorpusError
from schemas.texts.format import FORMATS, find_format, known_suffixes

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

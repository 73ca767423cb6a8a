"""Parquet whose rows name one long value many times: in bounded memory, or refused."""

import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.errors import CorpusError
from schemas.texts import folded
from schemas.texts.folded import BATCH_ROWS, Folding, measure
from schemas.texts.format import Source
from schemas.texts.records import read_records
from schemas.texts.unfolded import SLICE_BYTES

MIB = 1 << 20
CONTENT = "messages.list.element.content"


def talks(*lengths: int, turns: int = 2) -> list[Any]:
    """Conversations of `turns` equal contents of so many characters each."""
    return [[{"role": "user", "content": "a" * length}] * turns for length in lengths]


def write(path: Path, rows: list[Any], **how: Any) -> Path:
    pq.write_table(pa.table({"messages": rows, "messages.text": ["beside"] * len(rows)}), path, **how)
    return path


def folding(path: Path, *columns: str) -> Folding:
    with pq.ParquetFile(path) as table:
        return measure(Source(path, io.BytesIO(path.read_bytes()), columns, nested=["messages"]), table, 0, columns)


def read(path: Path) -> list[Any]:
    return [record["messages"] for _, record in read_records(path, ["messages"], nested=["messages"])]


def test_short_values_are_decoded_as_they_are(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", talks(*range(1, 50)))
    assert folding(path, "messages") == folding(path, "messages.text") == Folding(BATCH_ROWS)
    assert read(path) == talks(*range(1, 50))


def test_a_long_text_in_every_item_of_a_row_is_refused_before_it_is_unfolded(tmp_path: Path) -> None:
    path = write(tmp_path / "bomb.parquet", [*talks(3), *talks(MIB, turns=300)])
    assert path.stat().st_size < MIB // 10
    assert folding(path, "messages") == Folding(BATCH_ROWS, (CONTENT,))
    before = pa.total_allocated_bytes()
    records = read_records(path, ["messages"], nested=["messages"])
    with pytest.raises(CorpusError, match=r"bomb\.parquet:2: a record of more than 64 MiB; is this a text\?"):
        list(records)
    assert pa.total_allocated_bytes() - before < 8 * MIB


def test_a_long_text_in_every_row_is_unfolded_in_slices(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.parquet", talks(*[MIB] * 150))
    before, most, rows = pa.total_allocated_bytes(), 0, 0
    for _, record in read_records(path, ["messages"], nested=["messages"]):
        most, rows = max(most, pa.total_allocated_bytes() - before), rows + 1
        assert [len(turn["content"]) for turn in record["messages"]] == [MIB, MIB]
    assert rows == 150 and most < 2 * SLICE_BYTES


def test_texts_that_fill_more_than_their_dictionary_are_decoded_few_rows_at_a_time(tmp_path: Path) -> None:
    path = write(tmp_path / "mixed.parquet", talks(*range(200_000, 200_040)), dictionary_pagesize_limit=300_000)
    assert folding(path, "messages") == Folding(SLICE_BYTES // (2 * 200_001))
    assert read(path) == talks(*range(200_000, 200_040))


def test_items_without_bytes_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folded, "MOST_ITEMS", 1_000)
    path = write(tmp_path / "nulls.parquet", [[None] * 600, [None, {"role": "a", "content": None}] * 300])
    said = r"nulls\.parquet: column 'messages\.list\.element\.role' has 1,200 items in one row group, and 1,000 can be"
    with pytest.raises(CorpusError, match=said):
        read(path)


def test_an_empty_row_group_and_rows_without_items(tmp_path: Path) -> None:
    kind = pa.list_(pa.struct([pa.field("role", pa.string()), pa.field("content", pa.string())]))
    tables: list[list[Any]] = [[], [None, []]]
    for rows in tables:
        pq.write_table(pa.table({"messages": pa.array(rows, kind)}), tmp_path / "a.parquet")
        assert read(tmp_path / "a.parquet") == rows

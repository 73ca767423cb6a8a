"""Columns of binary tables are checked before a value is read, and rows are numbered across batches."""

import io
from collections.abc import Collection, Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from schemas.errors import CorpusError
from schemas.texts.columns import find_columns, read_batches
from schemas.texts.format import Source

TABLE = Path("a.parquet")


def schema(*names: str) -> pa.Schema:
    return pa.schema([pa.field(name, pa.string()) for name in names])


def find(
    table: pa.Schema, fields: Sequence[str], optional: Collection[str] = (), nested: Collection[str] = ()
) -> list[str]:
    return find_columns(Source(TABLE, io.BytesIO(), fields, optional=optional, nested=nested), table)


def test_columns_that_are_wanted_are_there_once() -> None:
    assert find(schema("a", "b"), ["b"]) == ["b"]
    assert find(schema(), []) == []
    with pytest.raises(CorpusError, match=r"^a\.parquet: no column 'c'; available: .*a.*b"):
        find(schema("a", "b"), ["a", "c"])
    with pytest.raises(CorpusError, match=r"^a\.parquet: two columns have the name 'b'; rename one$"):
        find(schema("a", "b", "b"), ["a"])


def test_an_optional_column_may_be_missing() -> None:
    assert find(schema("a", "b"), ["b", "c", "a"], optional=["a", "c"]) == ["b", "a"]
    with pytest.raises(CorpusError, match=r"^a\.parquet: no column 'd'; available: 'a', 'b'$"):
        find(schema("a", "b"), ["c", "d"], optional=["c"])


def test_a_wanted_column_has_one_value_per_row() -> None:
    lists = pa.schema([pa.field("a", pa.string()), pa.field("l", pa.list_(pa.int8()))])
    assert find(lists, ["a"]) == ["a"]
    with pytest.raises(CorpusError, match=r"^a\.parquet: column 'l' holds 'list<.*>', not a text or a number per row"):
        find(lists, ["a", "l"], nested=["a"])
    assert find(lists, ["a", "l"], nested=["l", "a"]) == ["a", "l"]


def test_a_nested_column_holds_lists_and_objects_alone() -> None:
    maps = pa.schema([pa.field("m", pa.list_(pa.struct([pa.field("n", pa.map_(pa.string(), pa.string()))])))])
    said = r"^a\.parquet: column 'm' holds 'map<string, string>', which cannot be read; convert it to a string of JSON$"
    with pytest.raises(CorpusError, match=said):
        find(maps, ["m"], nested=["m"])


def test_rows_count_on_from_batch_to_batch() -> None:
    batches = [pa.record_batch({"a": ["x", "y"]}), pa.record_batch({"a": pa.array([], pa.string())})]
    batches.append(pa.record_batch({"a": ["z"]}))
    assert list(read_batches(TABLE, batches)) == [(1, {"a": "x"}), (2, {"a": "y"}), (3, {"a": "z"})]
    assert list(read_batches(TABLE, batches[2:], before=5)) == [(6, {"a": "z"})]


def test_a_value_that_is_not_utf8_is_named_with_its_row() -> None:
    broken = pa.array([b"good", b"caf\xe9"]).view(pa.string())
    batches = [pa.record_batch({"a": ["first", "second"]}), pa.record_batch({"a": broken})]
    with pytest.raises(CorpusError, match=r"^a\.parquet:4: field 'a' cannot be read: .*; convert the file$"):
        list(read_batches(TABLE, batches))


def test_objects_lose_the_keys_that_a_table_fills_with_null() -> None:
    rows = [{"m": [{"a": 1}, {"b": {"c": None, "d": [None]}}]}, {"m": None}, {"m": [None, {"a": None}]}]
    batch = pa.RecordBatch.from_pylist(rows)
    assert list(read_batches(TABLE, [batch])) == [
        (1, {"m": [{"a": 1}, {"b": {"d": [None]}}]}),
        (2, {"m": None}),
        (3, {"m": [None, {}]}),
    ]

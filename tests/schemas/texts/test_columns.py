"""Columns of binary tables are checked before a value is read, and rows are numbered across batches."""

from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import CorpusError
from schemas.texts.columns import read_batches, repeated, require_columns

TABLE = Path("a.parquet")


def schema(*names: str) -> pa.Schema:
    return pa.schema([pa.field(name, pa.string()) for name in names])


def test_columns_that_are_wanted_are_there_once() -> None:
    require_columns(TABLE, schema("a", "b"), ["b"])
    require_columns(TABLE, schema(), [])
    with pytest.raises(CorpusError, match=r"^a\.parquet: no column 'c'; available: .*a.*b"):
        require_columns(TABLE, schema("a", "b"), ["a", "c"])
    with pytest.raises(CorpusError, match=r"^a\.parquet: two columns have the name 'b'; rename one$"):
        require_columns(TABLE, schema("a", "b", "b"), ["a"])


def test_a_wanted_column_has_one_value_per_row() -> None:
    nested = pa.schema([pa.field("a", pa.string()), pa.field("l", pa.list_(pa.int8()))])
    require_columns(TABLE, nested, ["a"])
    with pytest.raises(CorpusError, match=r"^a\.parquet: column 'l' holds 'list<.*>', not a text or a number per row"):
        require_columns(TABLE, nested, ["a", "l"])


@given(st.lists(st.sampled_from("abcd")))
def test_the_first_that_stood_before(names: list[str]) -> None:
    again = [name for place, name in enumerate(names) if name in names[:place]]
    assert repeated(names) == (again[0] if again else None)


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

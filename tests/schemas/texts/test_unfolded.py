"""Binary tables that hold one long value and name it in every row: read in bounded memory, or refused."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.errors import CorpusError
from schemas.texts.records import read_records
from schemas.texts.unfolded import SLICE_BYTES, row_bytes, slices

MIB = 1 << 20


def one_value_in(rows: int, length: int) -> pa.Table:
    indices = pa.array(np.zeros(rows, dtype=np.int32))
    return pa.table({"text": pa.DictionaryArray.from_arrays(indices, pa.array(["a" * length]))})


def test_a_parquet_file_of_one_long_value_is_decoded_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "bomb.parquet"
    with pq.ParquetWriter(path, pa.schema([("text", pa.string())]), compression="zstd", store_schema=False) as file:
        file.write_table(one_value_in(300, MIB - 64).cast(pa.schema([("text", pa.string())])))
    assert path.stat().st_size < MIB // 100
    before, most, rows = pa.total_allocated_bytes(), 0, 0
    for number, record in read_records(path, ["text"]):
        most, rows = max(most, pa.total_allocated_bytes() - before), rows + 1
        assert (number, len(record["text"])) == (rows, MIB - 64)
    assert rows == 300
    assert most < 2 * SLICE_BYTES  # all of them at once are 300 MiB


@pytest.mark.parametrize("suffix", [".arrow", ".parquet"])
def test_rows_that_share_a_value_become_python_values_in_slices(tmp_path: Path, suffix: str) -> None:
    path, table = tmp_path / f"bomb{suffix}", one_value_in(300, MIB)
    if suffix == ".arrow":
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
    else:
        pq.write_table(table, path)
    tracemalloc.start()
    try:
        total = sum(len(record["text"]) for _, record in read_records(path, ["text"]))
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert total == 300 * MIB
    assert most < 3 * SLICE_BYTES


@pytest.mark.parametrize("suffix", [".arrow", ".parquet"])
def test_a_record_is_bounded_as_in_text_files(tmp_path: Path, suffix: str) -> None:
    path, table = tmp_path / f"long{suffix}", pa.table({"text": ["short", "a" * (65 * MIB)]})
    if suffix == ".arrow":
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
    else:
        pq.write_table(table, path)
    with pytest.raises(CorpusError, match=rf"long{suffix}:2: a record of more than 64 MiB; is this a text\?"):
        list(read_records(path, ["text"]))


def test_a_column_that_unpacks_to_gigabytes_is_refused_unread(tmp_path: Path) -> None:
    path, column = tmp_path / "zeros.parquet", pa.chunked_array([pa.array(["a" * MIB])] * 1100)
    pq.write_table(pa.table({"text": column}), path, compression="zstd", use_dictionary=False)
    unpacked = pq.ParquetFile(path).metadata.row_group(0).column(0).total_uncompressed_size
    before = pa.total_allocated_bytes()
    with pytest.raises(CorpusError, match=f"column 'text' unpacks from [0-9,]+ bytes to {unpacked:,}; no text shrinks"):
        next(read_records(path, ["text"]))
    assert pa.total_allocated_bytes() - before < MIB


def test_rows_are_counted_over_row_groups(tmp_path: Path) -> None:
    path = tmp_path / "groups.parquet"
    pq.write_table(pa.table({"text": list("abcde")}), path, row_group_size=2)
    assert [(n, r["text"]) for n, r in read_records(path, ["text"])] == list(enumerate("abcde", 1))


def test_a_column_of_lists_is_named_before_a_row_of_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "turns.parquet"
    pq.write_table(pa.table({"text": [["one", "two"]]}), path)
    with pytest.raises(CorpusError, match="column 'text' holds 'list<element: string>', not a text"):
        list(read_records(path, ["text"]))


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["", "é", None, "four"]),
        pa.array(["", "é", None, "four"], pa.large_string()),
        pa.array(["", "é", None, "four"], pa.string_view()),
        pa.array(["", "é", None, "four"]).dictionary_encode(),
        pa.array([b"", b"\xc3\xa9", None, b"four"], pa.large_binary()),
        pa.array([b"", b"\xc3\xa9", None, b"four"], pa.binary_view()),
    ],
    ids=lambda column: str(column.type)[:12],
)
def test_the_bytes_of_each_row(column: pa.Array) -> None:
    assert row_bytes(pa.record_batch([column], names=["text"])).tolist() == [0, 2, 0, 4]


def test_the_bytes_of_runs_and_of_numbers() -> None:
    runs = pa.RunEndEncodedArray.from_arrays(pa.array([3, 4], pa.int32()), pa.array(["abc", "d"]))
    batch = pa.record_batch([runs, pa.array([1.0, 2.0, 3.0, 4.0])], names=["text", "score"])
    assert row_bytes(batch).tolist() == [19, 19, 19, 17]


ROWS: list[Any] = [
    [{"role": "user", "said": ["a", "bcd"]}, {"role": "é", "said": []}],
    None,
    [],
    [None, {"role": None, "said": [None]}],
]
OBJECT = pa.struct([pa.field("role", pa.string()), pa.field("said", pa.list_(pa.string()))])


def naive_bytes(value: Any) -> int:
    """Of a value of ROWS: 16 for every item of a list and every key of an object, and its texts."""
    if isinstance(value, list):
        return sum(16 + naive_bytes(item) for item in value)
    if isinstance(value, dict):
        return 32 + naive_bytes(value["role"]) + naive_bytes(value["said"])
    return len(value.encode()) if isinstance(value, str) else 0


@pytest.mark.parametrize("make", [pa.list_, pa.large_list, pa.list_view, pa.large_list_view])
def test_the_bytes_of_lists_of_objects(make: Callable[[pa.DataType], pa.DataType]) -> None:
    rows = [row if row is None else [turn for turn in row if turn is not None] for row in ROWS]
    for given in (pa.array(rows, make(OBJECT)), pa.array([[], [{}], *rows], make(OBJECT)).slice(2)):
        assert row_bytes(pa.record_batch([given], names=["m"])).tolist() == [naive_bytes(row) for row in rows]
    null = pa.array(ROWS, make(OBJECT))  # a null object takes the room of its keys
    assert row_bytes(pa.record_batch([null], names=["m"])).tolist() == [naive_bytes(row) for row in rows[:3]] + [
        128 - 16
    ]
    assert row_bytes(pa.record_batch([pa.array([], make(OBJECT))], names=["m"])).tolist() == []


def test_the_bytes_of_lists_that_share_or_fold_their_items() -> None:
    pairs = pa.array([["a", "bc"], None, ["", "def"]], pa.list_(pa.string(), 2))
    assert row_bytes(pa.record_batch([pairs], names=["m"])).tolist() == [35, 0, 35]
    assert row_bytes(pa.record_batch([pairs.slice(1)], names=["m"])).tolist() == [0, 35]
    folded = pa.DictionaryArray.from_arrays(pa.array([0, 0, 0], pa.int32()), pa.array(["x" * 100]))
    lists = pa.ListArray.from_arrays(pa.array([0, 3, 3], pa.int32()), folded)
    assert row_bytes(pa.record_batch([lists], names=["m"])).tolist() == [348, 0]
    views = pa.ListViewArray.from_arrays(pa.array([0, 0], pa.int32()), pa.array([1, 1], pa.int32()), pa.array(["xyz"]))
    assert row_bytes(pa.record_batch([views], names=["m"])).tolist() == [19, 19]
    texts = pa.array(["long enough to lie elsewhere", "b", None, "d"], pa.string_view())
    assert row_bytes(pa.record_batch([texts.slice(1)], names=["m"])).tolist() == [1, 0, 1]


def test_slices_hold_as_many_rows_as_fit() -> None:
    half = SLICE_BYTES // 2
    batch = pa.record_batch({"number": list(range(6))})
    sizes = np.array([half, half, 1, 3 * half, half, 1])
    assert [part.column(0).to_pylist() for part in slices(batch, sizes)] == [[0, 1], [2], [3], [4, 5]]

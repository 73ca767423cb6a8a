"""Rows of a binary table as they are once unfolded: a table may hold one long value and name it in every row.

So a file of kilobytes may stand for gigabytes, and its rows are made in slices of bounded size.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.texts.nested import is_list

SLICE_BYTES = 64 << 20  # of rows that are made Python values at a time
NUMBER_BYTES = 16  # of what has no length of its own: a number, a date, a boolean
LENGTHS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
VIEW_WORDS = 4  # 32-bit words of an entry of a view; the first is its length


def row_bytes(batch: pa.RecordBatch) -> np.ndarray:
    """[rows] int64: the bytes of each row's values. The batch is not a slice."""
    return sum((_bytes(column) for column in batch.columns), np.zeros(batch.num_rows, dtype=np.int64))


def slices(batch: pa.RecordBatch, sizes: np.ndarray) -> Iterator[pa.RecordBatch]:
    """`batch` in its order, in slices of up to SLICE_BYTES or of one row; `sizes` are its `row_bytes`."""
    ends = np.cumsum(sizes)
    start = 0
    while start < batch.num_rows:
        before = ends[start] - sizes[start]
        stop = max(start + 1, int(np.searchsorted(ends, before + SLICE_BYTES, side="right")))
        yield batch.slice(start, stop - start)
        start = stop


def _bytes(column: pa.Array) -> np.ndarray:
    if isinstance(column, pa.ExtensionArray):
        return _bytes(column.storage)
    if isinstance(column, pa.DictionaryArray):
        of_values = np.append(_bytes(column.dictionary), 0)  # the last stands for no value
        chosen: np.ndarray = of_values[np.asarray(column.indices.cast(pa.int64()).fill_null(len(of_values) - 1))]
        return chosen
    if isinstance(column, pa.RunEndEncodedArray):
        return np.repeat(_bytes(column.values), np.diff(column.run_ends.to_numpy(), prepend=0))
    kind = column.type
    if pa.types.is_struct(kind):
        fields = (_bytes(column.field(number)) for number in range(kind.num_fields))
        return sum(fields, np.full(len(column), kind.num_fields * NUMBER_BYTES))
    if is_list(kind):
        return _list_bytes(column)
    if pa.types.is_string_view(kind) or pa.types.is_binary_view(kind):
        entries = np.frombuffer(column.buffers()[1], dtype=np.int32).reshape(-1, VIEW_WORDS)
        return np.where(_valid(column), entries[column.offset :][: len(column), 0], 0).astype(np.int64)
    if any(test(kind) for test in LENGTHS):
        return np.asarray(pc.binary_length(column).fill_null(0)).astype(np.int64)
    return np.full(len(column), NUMBER_BYTES, dtype=np.int64)


def _list_bytes(column: pa.Array) -> np.ndarray:
    """What stands between the first and the last item of each row, and a number's bytes for each of them."""
    first_n, last_n = _list_ends(column)
    up_to = np.append(0, np.cumsum(_bytes(column.values) + NUMBER_BYTES))
    held_n: np.ndarray = np.where(_valid(column), up_to[last_n] - up_to[first_n], 0)
    return held_n


def _list_ends(column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """[rows] each: where the items of a row begin and end in the values."""
    kind = column.type
    if pa.types.is_fixed_size_list(kind):
        first_n = (column.offset + np.arange(len(column))) * kind.list_size
        return first_n, first_n + kind.list_size
    offsets = np.asarray(column.offsets)
    if pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind):
        return offsets, offsets + np.asarray(column.sizes)
    return offsets[:-1], offsets[1:]


def _valid(column: pa.Array) -> np.ndarray:
    return np.asarray(column.is_valid())

"""Rows of a binary table as they are once unfolded: a table may hold one long value and name it in every row.

So a file of kilobytes may stand for gigabytes, and its rows are made in slices of bounded size.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

SLICE_BYTES = 64 << 20  # of rows that are made Python values at a time
NUMBER_BYTES = 16  # of what has no length of its own: a number, a date, a boolean
LENGTHS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
VIEW_WORDS = 4  # 32-bit words of an entry of a view; the first is its length


def is_single(column: pa.DataType) -> bool:
    """Returns whether each row of a column holds one text or number, rather than a list or an object."""
    while isinstance(column, (pa.DictionaryType, pa.RunEndEncodedType, pa.BaseExtensionType)):
        column = column.storage_type if isinstance(column, pa.BaseExtensionType) else column.value_type
    return not pa.types.is_nested(column)


def row_bytes(batch: pa.RecordBatch) -> np.ndarray:
    """[rows] int64: the bytes of each row's values. Its columns are single ones, and the batch is not a slice."""
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
    if pa.types.is_string_view(kind) or pa.types.is_binary_view(kind):
        entries = np.frombuffer(column.buffers()[1], dtype=np.int32).reshape(-1, VIEW_WORDS)
        return entries[: len(column), 0].astype(np.int64)
    if any(test(kind) for test in LENGTHS):
        return np.asarray(pc.binary_length(column).fill_null(0)).astype(np.int64)
    return np.full(len(column), NUMBER_BYTES, dtype=np.int64)

"""List columns: rows are slices of flat values, and flat values become rows."""

import numpy as np
import pyarrow as pa

from schemas.cache.list_columns import ListColumn, make_lists
from schemas.cache.samples import Offsets


def test_a_column_copies_nothing() -> None:
    flat = ListColumn(pa.array([[1, 2], [], [3]], pa.list_(pa.int32())))
    assert [flat[row].tolist() for row in range(3)] == [[1, 2], [], [3]] and flat.counts.tolist() == [2, 0, 1]
    assert np.shares_memory(flat[0], flat.values)
    pairs = ListColumn(pa.array([[[1, 2]], [[3, 4], [5, 6]]], pa.list_(pa.list_(pa.int32(), 2))))
    assert [pairs[row].tolist() for row in range(2)] == [[[1, 2]], [[3, 4], [5, 6]]]


def test_rows_become_a_column() -> None:
    rows = [np.array([[1, 2], [3, 4]]), np.empty((0, 2)), np.array([[5, 6]])]
    assert make_lists(rows, Offsets).to_pylist() == [[[1, 2], [3, 4]], [], [[5, 6]]]
    assert make_lists([], pa.list_(pa.int32())).to_pylist() == []

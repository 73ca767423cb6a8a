"""List columns of Arrow tables as flat arrays: no Python object for a row, or for a number in it."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa


class ListColumn:
    """A list column as offsets and flat values: a row is a slice, without a copy, except of turns."""

    def __init__(self, column: pa.ListArray):
        self.offsets: np.ndarray = column.offsets.to_numpy()
        values = column.values
        if pa.types.is_struct(values.type):  # turns: their start and end
            flat = np.stack([values.field(name).to_numpy() for name in ("start", "end")], 1)
        else:
            flat = (values.values if pa.types.is_fixed_size_list(values.type) else values).to_numpy()
        pairs = not pa.types.is_integer(values.type)
        self.values: np.ndarray = flat.reshape(-1, 2) if pairs else flat

    def __getitem__(self, row: int) -> np.ndarray:
        rows: np.ndarray = self.values[self.offsets[row] : self.offsets[row + 1]]
        return rows

    @property
    def counts(self) -> np.ndarray:
        """Values per row."""
        return np.diff(self.offsets)


def make_lists(rows: Sequence[np.ndarray], kind: pa.ListType) -> pa.ListArray:
    """A list column without a Python object for every number."""
    ends = np.cumsum([0, *(len(row) for row in rows)], dtype=np.int32)
    flat = np.concatenate([np.asarray(row, dtype=np.int32).reshape(-1) for row in rows] or [np.empty(0, np.int32)])
    values = pa.array(flat, pa.int32())
    if pa.types.is_fixed_size_list(kind.value_type):
        values = pa.FixedSizeListArray.from_arrays(values, type=kind.value_type)
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), values, type=kind)

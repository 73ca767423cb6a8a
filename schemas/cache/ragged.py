"""Rows that are strings of bytes of differing lengths: all of them one after the other, and how long each is.

Where a row begins follows from the sizes before it. An array of many rows says it of every 64th, so that any of them is
found by adding up 64 sizes at most: no table is made, and nothing but the rows asked for is read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from schemas.cache.stored_files import Numbers
from schemas.cache.ways_out import redo
from schemas.errors import CacheError

STRIDE = 64  # rows from one written start to the next
LONGEST = 65_535  # bytes of a row: sizes are uint16


@dataclass(frozen=True)
class RaggedRows:
    """Some rows, in order. A slice of them costs no copy."""

    data: np.ndarray  # uint8 [bytes]: all rows, one after the other
    sizes: np.ndarray  # uint16 [rows]: bytes of each

    @classmethod
    def of(cls, data: np.ndarray, sizes: np.ndarray) -> "RaggedRows":
        """Rows of whole numbers of bytes of any type. Raises ValueError for a row beyond LONGEST."""
        if len(sizes) and int(sizes.max()) > LONGEST:
            raise ValueError(f"row {int(sizes.argmax())} has {int(sizes.max()):,} bytes; a row holds {LONGEST:,}")
        return cls(data, sizes.astype("<u2"))

    def __len__(self) -> int:
        return len(self.sizes)

    @property
    def bounds(self) -> np.ndarray:
        """[rows + 1] int64: where each row begins in `data`, and the end."""
        return np.concatenate([np.zeros(1, np.int64), np.cumsum(self.sizes, dtype=np.int64)])

    def __getitem__(self, rows: slice) -> "RaggedRows":
        start, stop, _ = rows.indices(len(self.sizes))
        sizes, begin = self.sizes[start:stop], int(self.sizes[:start].sum(dtype=np.int64))
        return RaggedRows(self.data[begin : begin + int(sizes.sum(dtype=np.int64))], sizes)


def concatenate(several: Sequence[RaggedRows]) -> RaggedRows:
    """The rows of all, in order; of none, no rows."""
    if not several:
        return RaggedRows(np.empty(0, np.uint8), np.empty(0, "<u2"))
    return RaggedRows(np.concatenate([rows.data for rows in several]), np.concatenate([rows.sizes for rows in several]))


def make_starts(sizes: np.ndarray) -> np.ndarray:
    """[ceil(rows / 64) + 1] int64: where rows 0, 64, 128, ... begin, and the end."""
    rows = np.arange(0, len(sizes), STRIDE)
    sums = np.add.reduceat(sizes, rows, dtype=np.int64) if len(sizes) else rows
    return np.concatenate([[0], np.cumsum(sums)]).astype("<i8")


class RaggedArray:
    """The rows of a whole shard, mapped: a slice of it is RaggedRows, found in microseconds."""

    def __init__(self, data: Numbers, sizes: Numbers, starts: Numbers):
        """`data` uint8 [bytes], `sizes` uint16 [rows], `starts` as `make_starts` gives them. Trusts them."""
        self.data, self.sizes, self.starts = data, sizes, starts

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, rows: slice) -> RaggedRows:
        """The rows of a slice without a step."""
        start, stop, _ = rows.indices(len(self.sizes))
        return self.rows(start, stop - start)

    def rows(self, start: int, count: int) -> RaggedRows:
        """`count` rows from row `start` on, as slices of the maps."""
        begin, end = self.extent(start, count)
        return RaggedRows(self.data[begin:end], self.sizes[start : start + count])

    def extent(self, start: int, count: int) -> tuple[int, int]:
        """The bytes of `data`, from and to, that hold `count` rows from row `start` on."""
        return self._begin(start), self._begin(start + count)

    def _begin(self, row: int) -> int:
        known = row - row % STRIDE
        place = row // STRIDE
        return int(self.starts[place : place + 1][0]) + int(self.sizes[known:row].sum(dtype=np.int64))

    def check(self, path: Path) -> None:
        """Raises CacheError, which names the array's `path`, unless starts, sizes and bytes agree. Reads all sizes."""
        if not np.array_equal(self.starts[:], make_starts(self.sizes[:])):
            raise CacheError(f"{path}: the sizes of its rows contradict where they start; {redo(path)}")

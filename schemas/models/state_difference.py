"""By how much the rows of two caches differ, decoded where they are encoded.

Shapes: N rows of one sample.
"""

from dataclasses import dataclass

import numpy as np

from schemas.cache.arrays import ArrayRecord
from schemas.cache.ragged import RaggedRows
from schemas.cache.reader import Cache
from schemas.models.row_numbers import RowNumbers


@dataclass(frozen=True)
class StoredRows:
    """The rows of one sample as they lie in a cache, and as numbers, where they are such."""

    stored: tuple[np.ndarray, ...]
    numbers: np.ndarray | None  # float64 [N, ...]
    count: int


class StateReader:
    """Rows of a cache's arrays as numbers."""

    def __init__(self, cache: Cache):
        """Raises CacheError: a decoder's tables are missing or unusable."""
        self._cache, self._numbers = cache, RowNumbers(cache.path, cache.manifest)

    def read(self, position: int, array: ArrayRecord) -> StoredRows:
        """Raises CacheError for a shard that is damaged."""
        (rows,) = self._cache.states(position, [array])
        stored = (rows.data, rows.sizes) if isinstance(rows, RaggedRows) else (np.ascontiguousarray(rows),)
        return StoredRows(stored, self._numbers.of(rows, array), len(rows))


@dataclass
class Difference:
    """What was found so far, over all rows compared."""

    rows: int = 0
    differing: int = 0
    largest: float | None = None  # None where rows are not numbers
    size: float = 0.0  # the largest number

    @property
    def is_none(self) -> bool:
        """Whether all rows are the same."""
        return self.differing == 0

    def count(self, same: bool) -> None:
        """One more row, of what has no numbers."""
        self.rows += 1
        self.differing += not same

    def compare(self, a: StoredRows, b: StoredRows) -> None:
        """The rows of one sample. Where counts differ, all of them do."""
        self.rows += max(a.count, b.count)
        if a.numbers is None or b.numbers is None or a.numbers.shape != b.numbers.shape:
            same = len(a.stored) == len(b.stored) and all(map(np.array_equal, a.stored, b.stored))
            self.differing += 0 if same else max(a.count, b.count)
            return
        gap = np.abs(a.numbers - b.numbers).reshape(a.count, -1)
        self.differing += int(np.count_nonzero(gap.any(1)))
        self.largest = max(self.largest or 0.0, float(gap.max(initial=0.0)))
        self.size = max(self.size, float(np.abs(a.numbers).max(initial=0.0)), float(np.abs(b.numbers).max(initial=0.0)))

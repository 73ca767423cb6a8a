"""Which files of a cache have been checked already, by any of the processes that share this by fork."""

import mmap
from collections.abc import Sequence
from itertools import accumulate

from schemas.cache.manifest import CacheManifest
from schemas.cache.shard import SAMPLES, STATES
from schemas.cache.states import array_files


class CheckedFiles:
    """A set of (unit, file), where a file is a path below the shard. One byte each, in shared memory.

    Where it is known how many blocks each shard has, there is a byte for each of them, too: 0 until it was checked.
    Data loading forks its workers after the cache was opened, so each block is hashed by the first of them to touch it.
    Two that come at once may both hash it.
    """

    def __init__(self, manifest: CacheManifest, blocks: Sequence[int] | None = None):
        """`blocks` are those of all files of each shard, by the number of its unit."""
        chunks = [f"{STATES}/{file}" for array in manifest.arrays for file in array_files(array)]
        self._places = {name: place for place, name in enumerate((SAMPLES, *chunks))}
        self._flags = mmap.mmap(-1, manifest.units * len(self._places))
        self._first_blocks = None if blocks is None else list(accumulate(blocks, initial=0))
        self.block_flags = mmap.mmap(-1, max(1, sum(blocks or ())))

    def __contains__(self, file: tuple[int, str]) -> bool:
        return self._flags[self._place(file)] != 0

    def add(self, file: tuple[int, str]) -> None:
        """Record that a file was checked, so that it is not checked again."""
        self._flags[self._place(file)] = 1

    def blocks(self, unit: int) -> range | None:
        """The places in `block_flags` of a shard's blocks; None if it is not known how many there are."""
        if self._first_blocks is None:
            return None
        return range(self._first_blocks[unit], self._first_blocks[unit + 1])

    def _place(self, file: tuple[int, str]) -> int:
        unit, name = file
        return unit * len(self._places) + self._places[name]

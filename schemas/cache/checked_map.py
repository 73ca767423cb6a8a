"""A mapped file of which nothing is given away before the blocks that it lies in were compared with their checksums."""

import mmap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from schemas.errors import CacheError
from schemas.storage.blocks import BLOCK_BYTES, DIGITS, hash_block

UNCHECKED = b"\0"


@dataclass(frozen=True)
class FileBlocks:
    """The blocks of one file, and which of them were checked."""

    path: Path
    sums: str  # DIGITS of each block
    flags: mmap.mmap  # of many files
    first: int  # the place of this one's first flag
    on_whole: Callable[[], None]  # told once all are checked
    way_out: str

    def check(self, content: memoryview, start: int, end: int) -> bool:
        """Compare the blocks that hold the bytes from `start` to before `end` of `content`, unless that was done.

        Returns whether the whole file was checked. Costs half a microsecond where there is nothing to compare. Raises
        CacheError for a block that does not have its checksum.
        """
        first, last = self.first + start // BLOCK_BYTES, self.first - (-end // BLOCK_BYTES)
        place = self.flags.find(UNCHECKED, first, last)
        while place >= 0:
            self._compare(content, place - self.first)
            self.flags[place] = 1
            place = self.flags.find(UNCHECKED, place + 1, last)
        if self.flags.find(UNCHECKED, self.first, self.first + len(self.sums) // DIGITS) >= 0:
            return False
        self.on_whole()
        return True

    def _compare(self, content: memoryview, block: int) -> None:
        found = hash_block(content[block * BLOCK_BYTES : (block + 1) * BLOCK_BYTES])
        if found != self.sums[block * DIGITS : (block + 1) * DIGITS]:
            raise CacheError(
                f"{self.path} does not have its checksum in the {BLOCK_BYTES >> 20} MiB from byte "
                f"{block * BLOCK_BYTES:,} on; {self.way_out}"
            )


class CheckedMap:
    """The numbers of one file, of which slices are taken as of an array. Once all blocks are checked, it is no more."""

    __slots__ = ("_blocks", "_content", "_row_bytes", "_values")

    def __init__(self, values: np.ndarray, blocks: FileBlocks):
        """`values` are the whole file, mapped, in C order."""
        self._values, self._row_bytes = values, values.strides[0]
        self._blocks: FileBlocks | None = blocks
        self._content = values.reshape(-1).view(np.uint8).data

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, rows: slice) -> np.ndarray:
        """Rows of the map, not copied. Raises CacheError if a block that they touch is damaged."""
        if self._blocks is not None:
            start, stop, _ = rows.indices(len(self._values))
            if self._blocks.check(self._content, start * self._row_bytes, stop * self._row_bytes):
                self._blocks = None
        found: np.ndarray = self._values[rows]
        return found

"""The files of one shard, of which nothing is given away before it was compared with its checksum."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from schemas.cache.checked_files import CheckedFiles
from schemas.cache.checked_map import CheckedMap, FileBlocks
from schemas.cache.chunk import map_chunk
from schemas.cache.shard import ShardRecord
from schemas.cache.stored_files import Numbers, StoredFiles
from schemas.cache.ways_out import redo
from schemas.storage.blocks import check_blocks


@dataclass(frozen=True)
class ShardFiles(StoredFiles):
    """Files by their paths below the shard, or below a folder of it. What was checked once is not checked again."""

    shard: Path
    unit: int
    checked: CheckedFiles
    record: Callable[[], ShardRecord]  # with its files; not asked where everything is checked
    prefix: str = ""

    def below(self, folder: str) -> Self:
        """The files in a folder, by their paths below it."""
        return replace(self, prefix=f"{self.prefix}{folder}/")

    @property
    def folder(self) -> Path:
        """Where they lie."""
        return self.shard / self.prefix

    def compare(self, name: str) -> None:
        """Compare a whole file with its checksums. Raises CacheError."""
        check_blocks(self.folder / name, self.record().files[self.prefix + name], redo(self.shard))

    def require(self, name: str) -> None:
        """The same, unless that was done."""
        if (self.unit, self.prefix + name) not in self.checked:
            self.compare(name)
            self._add(name)

    def map(self, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Numbers:
        """The numbers of an uncompressed chunk, which are the whole file. A block is compared when a slice touches it.

        Without checksums of blocks, as in format 1, the whole file is compared now. Raises OSError or CacheError.
        """
        places = self.checked.blocks(self.unit)
        if (self.unit, self.prefix + name) not in self.checked and places is not None:
            return CheckedMap(map_chunk(self.folder / name, dtype, shape), self._blocks(name, places))
        self.require(name)
        return map_chunk(self.folder / name, dtype, shape)

    def _blocks(self, name: str, places: range) -> FileBlocks:
        files = self.record().files
        before = list(files).index(self.prefix + name)
        sums = files[self.prefix + name].blocks
        assert sums is not None  # checksums.json counts blocks only where all files have them
        return FileBlocks(
            path=self.folder / name,
            sums=sums,
            flags=self.checked.block_flags,
            first=places.start + sum(file.block_count for file in list(files.values())[:before]),
            on_whole=lambda: self._add(name),
            way_out=redo(self.shard),
        )

    def _add(self, name: str) -> None:
        self.checked.add((self.unit, self.prefix + name))

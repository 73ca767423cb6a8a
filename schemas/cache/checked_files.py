"""Which files of a cache have been checked already, by any of the processes that share this by fork."""

import mmap

from schemas.cache.manifest import CacheManifest
from schemas.cache.shard import SAMPLES


class CheckedFiles:
    """A set of (unit, file), where a file is samples.arrow or an array's path. One byte each, in shared memory.

    Data loading forks its workers after the cache was opened, so each file is hashed by the first of them to touch it.
    Two that come at once may both hash it.
    """

    def __init__(self, manifest: CacheManifest):
        files = (SAMPLES, *(array.path for array in manifest.arrays))
        self._places = {name: place for place, name in enumerate(files)}
        self._flags = mmap.mmap(-1, manifest.units * len(files))

    def __contains__(self, file: tuple[int, str]) -> bool:
        return self._flags[self._place(file)] != 0

    def add(self, file: tuple[int, str]) -> None:
        """Record that a file was checked, so that it is not checked again."""
        self._flags[self._place(file)] = 1

    def _place(self, file: tuple[int, str]) -> int:
        unit, name = file
        return unit * len(self._places) + self._places[name]

"""Plain numbers in C order, little endian: mapped, and read at the speed of a plain memmap."""

from pathlib import Path
from typing import Any

import numpy as np

from schemas.cache.codec import OneChunk
from schemas.cache.private_map import PrivateMap
from schemas.errors import CacheError


class Raw(OneChunk):
    """One uncompressed chunk."""

    name = "raw"
    mapped = True

    def decode(self, path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> np.ndarray:
        """A private map of the file. Raises CacheError if it is not of exactly the array's size."""
        wanted, found = int(np.prod(shape)) * dtype.itemsize, path.stat().st_size
        if found != wanted:
            raise CacheError(f"{path} has {found} bytes instead of {wanted}; remove its shard and extract again")
        return np.asarray(PrivateMap(path, dtype, shape))


CODEC = Raw()

"""Zarr's own zstd codec over one chunk: read whole, once per shard. For arrays of one row per sample."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from schemas.cache.arrays import ArrayRecord
from schemas.cache.codec import OneChunk

LEVEL = 3  # higher ones gain nothing on the bits of a float
KEPT = 0.92  # what is left of float16 embeddings


class Zstd(OneChunk):
    """One compressed chunk."""

    name = "zstd"
    zarr_codecs = ("bytes", "zstd")

    def compressor(self) -> Any:
        """Zarr's zstd at LEVEL."""
        from zarr.codecs import ZstdCodec  # half a second, and only for who writes

        return ZstdCodec(level=LEVEL)

    def decode(self, path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> np.ndarray:
        """The numbers in memory. Raises OSError, as Arrow does, for a damaged frame or one of another size."""
        wanted = int(np.prod(shape)) * dtype.itemsize
        numbers = pa.Codec("zstd").decompress(path.read_bytes(), wanted, asbytes=True)
        return np.frombuffer(numbers, dtype).reshape(shape).copy()  # torch warns of memory it may not write to

    def bytes_per_row(self, array: ArrayRecord) -> float:
        """KEPT of the numbers' own bytes."""
        return super().bytes_per_row(array) * KEPT


CODEC = Zstd()

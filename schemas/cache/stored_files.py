"""Where a codec takes the files of a shard's Zarr group from: as they lie there, or each after it was checked."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np

from schemas.cache.checked_map import CheckedMap
from schemas.cache.chunk import map_chunk

Numbers = np.ndarray | CheckedMap
"""Mapped numbers, of which slices are taken."""


class StoredFiles(ABC):
    """Files, by their paths below a folder."""

    @property
    @abstractmethod
    def folder(self) -> Path:
        """Where they lie."""

    @abstractmethod
    def require(self, name: str) -> None:
        """Raises CacheError unless the whole file may be read, by its path."""

    @abstractmethod
    def map(self, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Numbers:
        """The numbers of an uncompressed chunk, which are the whole file. Raises OSError or CacheError."""


class TrustedFiles(StoredFiles):
    """Files as they are: whoever reads them has checked them, or is checking them now."""

    def __init__(self, folder: Path):
        self._folder = folder

    @property
    def folder(self) -> Path:
        """Where they lie."""
        return self._folder

    def require(self, name: str) -> None:
        """Any file may be read."""

    def map(self, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> np.ndarray:
        """A private map."""
        return map_chunk(self._folder / name, dtype, shape)

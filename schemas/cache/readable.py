"""Samples with a teacher's states, as a student reads them by position: of one cache, or of several as one."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from schemas.cache.arrays import ArrayRecord, by_kind
from schemas.cache.manifest import CacheManifest
from schemas.cache.samples import CachedSample
from schemas.errors import CacheError


class ReadableCache(ABC):
    """What a student learns from. Positions run over the samples, in their order; `str` names the folders."""

    path: Path
    """The folder that holds the teacher's files: of several caches, the first."""
    manifest: CacheManifest
    """What holds of all samples, and of its folder alone the corpus, the units and the fingerprint."""
    tokens: np.ndarray
    """[samples] int32: the teacher's tokens of each sample."""
    tables: tuple[Path, ...]
    """The folders whose codecs were calibrated, one for each calibration: one, wherever all samples share it."""

    def __repr__(self) -> str:
        """What it is and holds, as a notebook shows it."""
        held = ", ".join(array.path for array in self.manifest.arrays)
        return f"{type(self).__name__}({str(self)!r}: {len(self):,} samples with {held})"

    @abstractmethod
    def __len__(self) -> int:
        """Samples."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """The identity of all that is read, and of its order."""

    @abstractmethod
    def position(self, sample_id: str) -> int:
        """Raises CacheError if there is no such sample."""

    @abstractmethod
    def sample(self, position: int) -> CachedSample:
        """Raises CacheError or PairingError: what is read is damaged."""

    @abstractmethod
    def states(self, position: int, arrays: Sequence[ArrayRecord]) -> list[Any]:
        """This sample's rows of each array, as `Cache.states` gives them."""

    @abstractmethod
    def tables_of(self, position: int) -> int:
        """Which of `tables` decode this sample's states."""

    def array(self, kind: str, layer: int) -> ArrayRecord:
        """Raises CacheError that names what the cache does hold."""
        record = self.manifest.array(kind, layer)
        if record is None:
            raise self._lacks(f"{kind}/{layer}", "that layer")
        return record

    def arrays_of(self, kind: str) -> list[ArrayRecord]:
        """The arrays of a state kind: of each of its layers, or its parts. Raises CacheError if there are none."""
        arrays = by_kind(self.manifest.arrays).get(kind)
        if arrays is None:
            raise self._lacks(kind, "it")
        return arrays

    def _lacks(self, wanted: str, way_out: str) -> CacheError:
        held = ", ".join(a.path for a in self.manifest.arrays)
        return CacheError(
            f"{self} holds no {wanted} (it holds {held}); run `stillroom extend` with {way_out} in `states`, too"
        )

"""Decoders of hidden states: from bytes as they lie on disk to numbers, on any device. One per encoding.

Shapes: N rows, d their width, K components, V vocabulary.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import ClassVar, Self

import torch
from torch import Tensor

from schemas.cache.arrays import ArrayRecord
from schemas.cache.manifest import CacheManifest, read_manifest
from schemas.cache.readable import ReadableCache
from schemas.cache.sections import array_folders
from schemas.form import require_subclass
from schemas.registry import Registry

# Kind and layer; where several caches are read whose tables differ, also which tables.
ArrayKey = tuple[str, int, *tuple[int, ...]]


class StateDecoder(ABC):
    """Decodes the rows of one array.

    Wherever rows are decoded, `data` [bytes] uint8 holds them one after the other, `size_N` (integers) says how many
    bytes each has, and `raw_R` which of them are raw: left out, they are looked up, for which a GPU must be
    waited for.
    """

    name: ClassVar[str]
    """`encoding` of the arrays that it decodes."""
    raw_size: int | None = None
    """The bytes of a row that is not encoded, where there may be such rows."""

    @classmethod
    def raw_size_of(cls, array: ArrayRecord) -> int | None:
        """`raw_size` of the decoder of an array, which need not be loaded for it."""
        return None

    @classmethod
    @abstractmethod
    def load(cls, cache: Path, array: ArrayRecord) -> Self:
        """The decoder of one array, on the CPU, whose codecs/ lie in the folder `cache`. Raises CacheError for what it
        needs of that."""

    @abstractmethod
    def to(self, device: torch.device) -> Self:
        """The same decoder on a device."""

    @abstractmethod
    def states(self, data: Tensor, size_N: Tensor, raw_R: Tensor | None = None) -> Tensor:
        """[N, d] float32."""


class FoldableDecoder(StateDecoder):
    """Whose states are x = y B, of coordinates y that are cheaper to have: x W^T = y (W B^T)^T spares the product.

    The same holds of weighted sums of states and of their coordinates.
    """

    @property
    @abstractmethod
    def basis_Kd(self) -> Tensor:
        """B, float32."""

    @abstractmethod
    def coordinates(self, data: Tensor, size_N: Tensor, raw_R: Tensor | None = None) -> Tensor:
        """[N, K] float32."""

    def fold(self, weight_Vd: Tensor) -> Tensor:
        """W B^T, [V, K] float32."""
        return weight_Vd.float() @ self.basis_Kd.T


DECODERS: Registry[type[StateDecoder]] = Registry(
    "state decoder",
    "schemas.models.decoders",
    "DECODER",
    "stillroom.state_decoders",
    partial(require_subclass, base=StateDecoder),
)


def load_decoders(cache: Path, manifest: CacheManifest) -> dict[ArrayKey, StateDecoder]:
    """The decoders of the arrays that need one, on the CPU. Raises CacheError: tables are missing or unusable."""
    folders = array_folders(cache, manifest)
    return {
        (array.kind, array.layer): DECODERS[array.encoding].load(folders[array.path], array)
        for array in manifest.arrays
        if array.encoding in DECODERS
    }


def load_all_decoders(cache: ReadableCache) -> dict[ArrayKey, StateDecoder]:
    """The decoders of all that is read, by their tables if there are several. Raises CacheError as `load_decoders`."""
    if len(cache.tables) == 1:
        return load_decoders(cache.tables[0], cache.manifest)
    return {
        (*array, tables): decoder
        for tables, path in enumerate(cache.tables)
        for array, decoder in load_decoders(path, read_manifest(path)).items()
    }


class DecodersByDevice:
    """Decoders, taken to a device once."""

    def __init__(self, decoders: Mapping[ArrayKey, StateDecoder]):
        self._on = {torch.device("cpu"): decoders}

    def on(self, device: torch.device) -> Mapping[ArrayKey, StateDecoder]:
        """The same decoders on a device."""
        if device not in self._on:
            cpu = self._on[torch.device("cpu")]
            self._on[device] = {array: decoder.to(device) for array, decoder in cpu.items()}
        return self._on[device]

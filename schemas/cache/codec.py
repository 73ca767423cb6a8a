"""A codec: how the numbers of one array lie in a shard's Zarr group. What is written may be read by any Zarr reader."""

from abc import ABC, abstractmethod
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from schemas.cache.arrays import ArrayRecord
from schemas.cache.dtypes import STORED
from schemas.errors import CacheError
from schemas.form import require_instance
from schemas.registry import Registry
from schemas.storage.record import parse_object, read_content


class Codec(ABC):
    """Encodes an array when a shard is written and decodes it when it is read. It keeps no state."""

    name: ClassVar[str]
    """`encoding` of the arrays that it encodes."""
    mapped: ClassVar[bool] = False
    """Returns whether what is read is a map of the file, so that it costs no memory; else it is decoded into memory."""

    @abstractmethod
    def write(self, group: Any, array: ArrayRecord, values: np.ndarray) -> None:
        """Store `values`, of the array's shape and stored dtype, in the Zarr group of a shard."""

    @abstractmethod
    def read(self, states: Path, array: ArrayRecord, rows: int) -> np.ndarray:
        """The array's `rows` rows, at least one, in the stored dtype; writes to them stay private.

        Raises CacheError if a file is missing, damaged or of another number of rows.
        """

    @abstractmethod
    def files(self, array: ArrayRecord) -> list[str]:
        """The files below a shard's Zarr group without which an array of at least one row cannot be read."""

    def check(self, states: Path, array: ArrayRecord, rows: int) -> None:
        """Raises CacheError unless the array's metadata tells other readers what is stored."""
        return

    @abstractmethod
    def bytes_per_row(self, array: ArrayRecord) -> float:
        """About how many bytes a row takes on disk."""


class OneChunk(Codec):
    """A codec that stores one Zarr array in one chunk, so that all its numbers lie in one file."""

    zarr_codecs: ClassVar[tuple[str, ...]] = ("bytes",)
    """Names of Zarr's codecs in the array's metadata."""

    def compressor(self) -> Any:
        """Of Zarr, or None."""
        return None

    @abstractmethod
    def decode(self, path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> np.ndarray:
        """The numbers in the chunk's file. Raises OSError or CacheError."""

    def write(self, group: Any, array: ArrayRecord, values: np.ndarray) -> None:
        """See `Codec.write`. One Zarr array whose chunk is the whole, written even if it is all zeros."""
        stored = group.create_array(
            array.path,
            shape=values.shape,
            chunks=tuple(max(1, size) for size in values.shape),
            dtype=STORED[array.dtype],
            compressors=self.compressor(),
            filters=None,
            fill_value=0,
            attributes=_attributes(array),
            # A chunk of zeros is left out by default, and a missing file is nothing one could map.
            config={"write_empty_chunks": True},
        )
        stored[...] = values

    def read(self, states: Path, array: ArrayRecord, rows: int) -> np.ndarray:
        """See `Codec.read`. Raises CacheError, with the way out, for what `decode` raises."""
        path = states / self.files(array)[0]
        try:
            return self.decode(path, STORED[array.dtype], array.shape(rows))
        except OSError as error:
            reason = error.strerror or error  # Arrow's errors, of a frame damaged or of another size, have no number
            raise CacheError(f"cannot read {path}: {reason}; remove its shard and extract again") from error

    def files(self, array: ArrayRecord) -> list[str]:
        """The one chunk: PATH/c/0 or PATH/c/0/0."""
        return [f"{array.path}/c/{'/'.join('0' for _ in array.shape(1))}"]

    def check(self, states: Path, array: ArrayRecord, rows: int) -> None:
        """See `Codec.check`: shape, data type, chunk grid, Zarr's codecs and attributes. Reads zarr.json alone."""
        path, shape = states / array.path / "zarr.json", list(array.shape(rows))
        found = parse_object(read_content(path, CacheError, f"{path.parent} is not a Zarr array"), path, CacheError)
        wanted: dict[str, Any] = {
            "zarr_format": 3,
            "node_type": "array",
            "shape": shape,
            "data_type": STORED[array.dtype].name,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [max(1, size) for size in shape]}},
            "codecs": list(self.zarr_codecs),
            "attributes": _attributes(array),
        }
        if isinstance(codecs := found.get("codecs"), list):
            found["codecs"] = [codec.get("name") if isinstance(codec, dict) else codec for codec in codecs]
        for name, value in wanted.items():
            if found.get(name) != value:
                said = f"{found.get(name)!r:.200}"
                raise CacheError(f"{path} says {name} {said}, and it is {value}; remove its shard and extract again")

    def bytes_per_row(self, array: ArrayRecord) -> float:
        """The bytes of its numbers, uncompressed."""
        return STORED[array.dtype].itemsize * (array.width or 1)


def _attributes(array: ArrayRecord) -> dict[str, Any]:
    return {"dtype": array.dtype, "encoding": array.encoding, "kind": array.kind, "layer": array.layer}


CODECS: Registry[Codec] = Registry(
    "codec", "schemas.cache.codecs", "CODEC", "stillroom.codecs", partial(require_instance, base=Codec)
)

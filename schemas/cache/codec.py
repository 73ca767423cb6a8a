"""A codec: how the numbers of one array lie in a shard's Zarr group. What is written may be read by any Zarr reader."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from schemas.cache.arrays import ArrayRecord
from schemas.cache.chunk import PLAIN, check_chunk, chunk_file, map_chunk, write_chunk
from schemas.cache.dtypes import STORED
from schemas.cache.stored_files import Numbers, StoredFiles
from schemas.cache.ways_out import redo
from schemas.errors import CacheError
from schemas.form import require_instance
from schemas.registry import Registry


class Codec(ABC):
    """Encodes an array when a shard is written and decodes it when it is read. It keeps no state."""

    name: ClassVar[str]
    """`encoding` of the arrays that it encodes."""
    mapped: ClassVar[bool] = False
    """Returns whether what is read is a map of the file, so that it costs no memory; else it is decoded into memory."""

    def stored(self, array: ArrayRecord, rows: int) -> tuple[np.dtype[Any], tuple[int, ...]]:
        """Data type and shape of the numbers that it takes and gives, unless they are ragged."""
        return STORED[array.dtype], array.shape(rows)

    def require(self, array: ArrayRecord, values: Any) -> None:
        """Raises ValueError unless `values` are what `write` takes."""
        dtype, shape = self.stored(array, values.shape[0])
        if values.dtype != dtype or values.shape != shape:
            width = shape[1] if len(shape) > 1 else None
            raise ValueError(f"{array.path}: {values.dtype}{values.shape} is not {dtype}[{array.rows}, {width}]")

    @abstractmethod
    def write(self, group: Any, array: ArrayRecord, values: Any) -> None:
        """Store `values`, of its stored shape and type, in the Zarr group of a shard. A ragged one takes RaggedRows."""

    @abstractmethod
    def read(self, states: Path, array: ArrayRecord, rows: int) -> Any:
        """The array's `rows` rows, at least one, as `stored` says; writes to them stay private. A ragged one gives a
        RaggedArray.

        Raises CacheError if a file is missing, damaged or of another number of rows.
        """

    def open(self, files: StoredFiles, array: ArrayRecord, rows: int) -> Any:
        """The same, of files of which nothing may be read before it was checked. Slices of it are taken.

        Here whole files are checked. A codec that maps overrides this: no more is checked than what a slice touches.
        """
        for name in self.files(array):
            files.require(name)
        return self.read(files.folder, array, rows)

    def empty(self, array: ArrayRecord) -> Any:
        """What `read` would give if there were a file of no rows."""
        dtype, shape = self.stored(array, 0)
        return np.empty(shape, dtype)

    @abstractmethod
    def files(self, array: ArrayRecord) -> list[str]:
        """The files below a shard's Zarr group without which an array of at least one row cannot be read."""

    def check(self, states: Path, array: ArrayRecord, rows: int) -> None:
        """Raises CacheError unless the array's metadata tells other readers what is stored."""
        return

    def are_finite(self, array: ArrayRecord, values: Any) -> np.ndarray:
        """[N] bool: which of some rows that were read hold finite numbers alone."""
        finite = finite_numbers(array.dtype, values)
        return np.asarray(finite.reshape(len(values), -1).all(axis=1))

    @abstractmethod
    def bytes_per_row(self, array: ArrayRecord) -> float:
        """About how many bytes a row takes on disk."""


class OneChunk(Codec):
    """A codec that stores one Zarr array in one chunk, so that all its numbers lie in one file."""

    zarr_codecs: ClassVar[tuple[str, ...]] = PLAIN
    """Names of Zarr's codecs in the array's metadata."""

    def compressor(self) -> Any:
        """Of Zarr, or None."""
        return None

    @abstractmethod
    def decode(self, path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> np.ndarray:
        """The numbers in the chunk's file. Raises OSError or CacheError."""

    def write(self, group: Any, array: ArrayRecord, values: np.ndarray) -> None:
        """See `Codec.write`."""
        write_chunk(group, array.path, values, attributes(array), self.compressor())

    def read(self, states: Path, array: ArrayRecord, rows: int) -> np.ndarray:
        """See `Codec.read`. Raises CacheError, with the way out, for what `decode` raises."""
        path = states / self.files(array)[0]
        with readable(path):
            return self.decode(path, *self.stored(array, rows))

    def files(self, array: ArrayRecord) -> list[str]:
        """The one chunk: PATH/c/0 or PATH/c/0/0."""
        return [chunk_file(array.path, len(self.stored(array, 1)[1]))]

    def check(self, states: Path, array: ArrayRecord, rows: int) -> None:
        """See `Codec.check`: shape, data type, chunk grid, Zarr's codecs and attributes. Reads zarr.json alone."""
        check_chunk(states / array.path, *self.stored(array, rows), attributes(array), self.zarr_codecs)

    def bytes_per_row(self, array: ArrayRecord) -> float:
        """The bytes of its numbers, uncompressed."""
        dtype, shape = self.stored(array, 1)
        return dtype.itemsize * int(np.prod(shape))


class Mapped(OneChunk):
    """One uncompressed chunk in C order, little endian: mapped, and read at the speed of a plain memmap."""

    mapped = True

    def open(self, files: StoredFiles, array: ArrayRecord, rows: int) -> Numbers:
        """See `Codec.open`."""
        name = self.files(array)[0]
        with readable(files.folder / name):
            return files.map(name, *self.stored(array, rows))

    def decode(self, path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> np.ndarray:
        """A private map of the file. Raises CacheError if it is not of exactly the array's size."""
        return map_chunk(path, dtype, shape)


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Raises CacheError, with the way out, for an OSError while the file `path` is read."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error  # Arrow's errors, of a frame damaged or of another size, have no number
        raise CacheError(f"cannot read {path}: {reason}; {redo(path)}") from error


def finite_numbers(dtype: str, values: np.ndarray) -> np.ndarray:
    """For every stored number of that type, whether it is finite."""
    if dtype == "bfloat16":  # not finite when all eight bits of its exponent are set
        return np.asarray((values & 0x7F80) != 0x7F80)
    return np.asarray(np.isfinite(values))


def attributes(array: ArrayRecord) -> dict[str, Any]:
    """What an array says of itself to other readers."""
    return {"dtype": array.dtype, "encoding": array.encoding, "kind": array.kind, "layer": array.layer}


CODECS: Registry[Codec] = Registry(
    "codec", "schemas.cache.codecs", "CODEC", "stillroom.codecs", partial(require_instance, base=Codec)
)

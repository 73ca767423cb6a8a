"""states.zarr: a Zarr v3 group, one array per kind and layer, each one chunk.

Any Zarr reader opens it. Ours maps the single file of an uncompressed chunk and reads at a plain memmap's speed; a
compressed one, of one row a sample, it reads whole. zarr-python has no bfloat16, so those bits lie on disk as uint16,
and the array's attribute `dtype` says what they are.
"""

import ctypes
import mmap
import os
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from schemas.cache.arrays import ArrayRecord
from schemas.cache.dtypes import STORED
from schemas.errors import CacheError
from schemas.storage.record import parse_object, read_content

ATTRIBUTES: dict[str, Any] = {"format": "stillroom-states", "version": 1}
ZSTD_LEVEL = 3  # higher ones gain nothing on the bits of a float


def array_shape(record: ArrayRecord, rows: int) -> tuple[int, ...]:
    """[rows] or [rows, width]."""
    return (rows,) if record.width is None else (rows, record.width)


def chunk_file(states: Path, record: ArrayRecord) -> Path:
    """The one file that holds all numbers of an array, in C order, little endian."""
    return states / record.path / "c" / "/".join("0" for _ in array_shape(record, 1))


def write_states(states: Path, arrays: dict[str, np.ndarray], records: list[ArrayRecord]) -> None:
    """Write a Zarr v3 group of single-chunk arrays; `arrays` is keyed by record path, in the stored dtype."""
    import zarr  # half a second, and only for who writes
    from zarr.codecs import ZstdCodec

    group = zarr.open_group(states, mode="w-", zarr_format=3, attributes=ATTRIBUTES)
    for record in records:
        values = arrays[record.path]
        stored = STORED[record.dtype]
        if values.dtype != stored or values.shape != array_shape(record, values.shape[0]):
            raise ValueError(
                f"{record.path}: {values.dtype}{values.shape} is not {stored}[{record.rows}, {record.width}]"
            )
        array = group.create_array(
            record.path,
            shape=values.shape,
            chunks=tuple(max(1, size) for size in values.shape),
            dtype=stored,
            compressors=ZstdCodec(level=ZSTD_LEVEL) if record.encoding == "zstd" else None,
            filters=None,
            fill_value=0,
            attributes={"dtype": record.dtype, "encoding": record.encoding, "kind": record.kind, "layer": record.layer},
            # A chunk of zeros is left out by default, and a missing file is nothing one could map.
            config={"write_empty_chunks": True},
        )
        array[...] = values


def check_group(states: Path) -> None:
    """The group says that it is of this format and version. Raises CacheError."""
    path = states / "zarr.json"
    group = parse_object(read_content(path, CacheError, f"{states} is not a Zarr group"), path, CacheError)
    try:
        found = {key: group["attributes"][key] for key in ATTRIBUTES}
    except (KeyError, TypeError) as error:
        raise CacheError(f"{path} is damaged: {error!r}; remove its shard and extract again") from error
    if found != ATTRIBUTES:
        raise CacheError(f"{path} says {found}; this stillroom reads {ATTRIBUTES}; use the one that wrote it")


def map_array(states: Path, record: ArrayRecord, rows: int) -> np.ndarray:
    """The numbers of one array, [rows] or [rows, width] in the stored dtype; writes to them stay private.

    A memory map of raw numbers; compressed ones are read into memory. Raises CacheError if the file is missing, damaged
    or not of so many rows.
    """
    path, shape, dtype = chunk_file(states, record), array_shape(record, rows), STORED[record.dtype]
    if rows == 0:  # every sample was left out: such a shard has no chunk
        return np.empty(shape, dtype)
    wanted = int(np.prod(shape)) * dtype.itemsize
    try:
        if record.encoding == "zstd":
            numbers = pa.Codec("zstd").decompress(path.read_bytes(), wanted, asbytes=True)
            return np.frombuffer(numbers, dtype).reshape(shape).copy()  # torch warns of memory it may not write to
        found = path.stat().st_size
    except OSError as error:
        reason = error.strerror or error  # Arrow's errors, of a frame damaged or of another size, have no number
        raise CacheError(f"cannot read {path}: {reason}; remove its shard and extract again") from error
    if found != wanted:
        raise CacheError(f"{path} has {found} bytes instead of {wanted}; remove its shard and extract again")
    return np.asarray(_PrivateMap(path, dtype, shape))


_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)


class _PrivateMap:
    """A file in memory, for NumPy to look into; unmapped when the last array over it is gone.

    np.memmap keeps a descriptor a map (until Python 3.13 it must), and a cache has more arrays than a process may have
    open files. Copy-on-write rather than read-only: torch warns of every read-only array it is handed.
    """

    def __init__(self, path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]):
        size = int(np.prod(shape)) * dtype.itemsize
        with path.open("rb") as file:
            protection = mmap.PROT_READ | mmap.PROT_WRITE
            address = _libc.mmap(None, size, protection, mmap.MAP_PRIVATE, file.fileno(), 0)
        if address == ctypes.c_void_p(-1).value:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))
        self.__array_interface__ = {"version": 3, "typestr": dtype.str, "shape": shape, "data": (address, False)}
        # At exit the system unmaps; to do it before would pull the memory from under arrays still in use.
        weakref.finalize(self, _libc.munmap, address, size).atexit = False

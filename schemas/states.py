"""states.zarr: a Zarr v3 group, one array per kind and layer, each one uncompressed chunk.

Any Zarr reader opens it; ours maps the chunk's single file and reads at a plain memmap's speed. zarr-python has no
bfloat16, so those bits lie on disk as uint16, and the array's attribute `dtype` says what they are.
"""

from pathlib import Path
from typing import Any

import numpy as np
import zarr

from schemas.errors import CacheError
from schemas.manifest import ArrayRecord

STORED: dict[str, np.dtype[Any]] = {"float32": np.dtype("<f4"), "float16": np.dtype("<f2"), "bfloat16": np.dtype("<u2")}


def array_shape(record: ArrayRecord, tokens: int) -> tuple[int, ...]:
    """[tokens] or [tokens, width]."""
    return (tokens,) if record.width is None else (tokens, record.width)


def chunk_file(states: Path, record: ArrayRecord) -> Path:
    """The one file that holds all numbers of an array, in C order, little endian."""
    return states / record.path / "c" / "/".join("0" for _ in array_shape(record, 1))


def write_states(states: Path, arrays: dict[str, np.ndarray], records: list[ArrayRecord]) -> None:
    """Write a Zarr v3 group of single-chunk arrays; `arrays` is keyed by record path, in the stored dtype."""
    group = zarr.open_group(states, mode="w-", zarr_format=3, attributes={"format": "stillroom-states", "version": 1})
    for record in records:
        values = arrays[record.path]
        stored = STORED[record.dtype]
        if values.dtype != stored or values.shape != array_shape(record, values.shape[0]):
            raise ValueError(f"{record.path}: {values.dtype}{values.shape} is not {stored}[tokens, {record.width}]")
        array = group.create_array(
            record.path,
            shape=values.shape,
            chunks=tuple(max(1, size) for size in values.shape),
            dtype=stored,
            compressors=None,
            filters=None,
            fill_value=0,
            attributes={"dtype": record.dtype, "encoding": record.encoding, "kind": record.kind, "layer": record.layer},
            # A chunk of zeros is left out by default, and a missing file is nothing one could map.
            config={"write_empty_chunks": True},
        )
        array[...] = values


def map_array(states: Path, record: ArrayRecord, tokens: int) -> np.ndarray:
    """The numbers of one array as a memory map, [tokens] or [tokens, width] in the stored dtype; writes stay private.

    Raises CacheError if the file is missing or its size is not that of `tokens` rows.
    """
    path, shape, dtype = chunk_file(states, record), array_shape(record, tokens), STORED[record.dtype]
    if tokens == 0:  # every sample was left out: such a shard has no chunk
        return np.empty(shape, dtype)
    try:
        found = path.stat().st_size
    except OSError as error:
        raise CacheError(f"cannot read {path}: {error.strerror}; remove its shard and extract again") from error
    wanted = int(np.prod(shape)) * dtype.itemsize
    if found != wanted:
        raise CacheError(f"{path} has {found} bytes instead of {wanted}; remove its shard and extract again")
    # Copy-on-write rather than read-only: torch warns of every read-only array it is handed.
    return np.memmap(path, dtype=dtype, mode="c", shape=shape)

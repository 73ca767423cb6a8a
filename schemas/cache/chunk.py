"""One Zarr array in one chunk, so that all its numbers lie in one file: written, checked, mapped."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from schemas.cache.private_map import PrivateMap
from schemas.cache.ways_out import redo
from schemas.errors import CacheError
from schemas.storage.record import parse_object, read_content

PLAIN = ("bytes",)  # Zarr's codecs of numbers that are not compressed


def write_chunk(
    group: Any, path: str, values: np.ndarray, attributes: Mapping[str, Any] | None = None, compressor: Any = None
) -> None:
    """Write `values` as the array `path` of a Zarr group. Its chunk is the whole, written even if it is all zeros."""
    stored = group.create_array(
        path,
        shape=values.shape,
        chunks=tuple(max(1, size) for size in values.shape),
        dtype=values.dtype,
        compressors=compressor,
        filters=None,
        fill_value=0,
        attributes=attributes,
        # A chunk of zeros is left out by default, and a missing file is nothing one could map.
        config={"write_empty_chunks": True},
    )
    stored[...] = values


def chunk_file(path: str, dimensions: int) -> str:
    """Where the numbers of an array of a group lie: PATH/c/0 or PATH/c/0/0."""
    return f"{path}/c/{'/'.join('0' * dimensions)}"


def map_chunk(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> np.ndarray:
    """A private map of an uncompressed chunk's file. Raises OSError, or CacheError if it has another size."""
    wanted, found = int(np.prod(shape)) * dtype.itemsize, path.stat().st_size
    if found != wanted:
        raise CacheError(f"{path} has {found} bytes instead of {wanted}; {redo(path)}")
    return np.asarray(PrivateMap(path, dtype, shape))


def check_chunk(
    path: Path,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    attributes: Mapping[str, Any],
    codecs: Sequence[str] = PLAIN,
) -> None:
    """Raises CacheError unless the zarr.json of the array at `path` says this of its one chunk."""
    wanted: dict[str, Any] = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [max(1, size) for size in shape]}},
        "codecs": list(codecs),
        "attributes": dict(attributes),
    }
    check_node(path, wanted, f"{path} is not a Zarr array")


def check_node(path: Path, wanted: Mapping[str, Any], missing: str) -> None:
    """Raises CacheError, for no file with the words `missing`, unless the zarr.json at `path` says what is wanted."""
    path = path / "zarr.json"
    found = parse_object(read_content(path, CacheError, missing), path, CacheError)
    if isinstance(codecs := found.get("codecs"), list):
        found["codecs"] = [codec.get("name") if isinstance(codec, dict) else codec for codec in codecs]
    for name, value in wanted.items():
        # zarr-python leaves out what is empty.
        said = found.get(name, {} if name == "attributes" else None)
        if said != value:
            raise CacheError(f"{path} says {name} {said!r:.200}, and it is {value}; {redo(path)}")

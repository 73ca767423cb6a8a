"""states.zarr: a Zarr v3 group with an array per kind and layer, or per part of a kind. Any Zarr reader opens it.

zarr-python has no bfloat16, so those bits lie on disk as uint16, and the array's attribute `dtype` says what they are.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from schemas.cache.arrays import ArrayRecord
from schemas.cache.codec import CODECS
from schemas.cache.ragged import RaggedRows
from schemas.cache.stored_files import StoredFiles
from schemas.cache.ways_out import redo
from schemas.errors import CacheError
from schemas.storage.atomic import FILES_AT_ONCE
from schemas.storage.record import parse_object, read_content

ATTRIBUTES: dict[str, Any] = {"format": "stillroom-states", "version": 2}
READABLE = tuple(ATTRIBUTES | {"version": version} for version in (1, 2))


Values = np.ndarray | RaggedRows  # of one array, to be written


def write_states(states: Path, arrays: Mapping[str, Values], records: Sequence[ArrayRecord]) -> None:
    """Write a Zarr v3 group, a few arrays at a time; `arrays` is keyed by record path, each as its codec takes it.

    Raises ValueError for numbers of another type or shape, and for rows whose sizes are not those of their bytes.
    """
    import zarr  # half a second, and only for who writes

    group = zarr.open_group(states, mode="w-", zarr_format=3, attributes=ATTRIBUTES)
    for record in records:
        CODECS.find(record.encoding).require(record, arrays[record.path])
    with ThreadPoolExecutor(FILES_AT_ONCE) as threads:
        list(threads.map(lambda array: CODECS.find(array.encoding).write(group, array, arrays[array.path]), records))


def check_group(states: Path) -> None:
    """The group says that it is of this format and of a version that is readable. Raises CacheError."""
    path = states / "zarr.json"
    group = parse_object(read_content(path, CacheError, f"{states} is not a Zarr group"), path, CacheError)
    try:
        found = {key: group["attributes"][key] for key in ATTRIBUTES}
    except (KeyError, TypeError) as error:
        raise CacheError(f"{path} is damaged: {error!r}; {redo(path)}") from error
    if found not in READABLE or type(found["version"]) is not int:  # true and 1.0 are equal to 1
        known = " or ".join(map(str, READABLE))
        raise CacheError(f"{path} says {found}; this stillroom reads {known}; use the one that wrote it")


def check_array(states: Path, record: ArrayRecord, rows: int) -> None:
    """Raises CacheError unless an array's metadata tells other readers what it holds."""
    CODECS.find(record.encoding).check(states, record, rows)


def open_array(files: StoredFiles, record: ArrayRecord, rows: int) -> Any:
    """The same of a shard's files, where slices of what is mapped are checked before they are given away."""
    codec = CODECS.find(record.encoding)
    return codec.open(files, record, rows) if rows else codec.empty(record)


def map_array(states: Path, record: ArrayRecord, rows: int) -> Any:
    """The numbers of one array, an array as its codec stores them or a RaggedArray; writes to them stay private.

    What the codec does not map is read into memory. Raises CacheError if a file is missing, damaged or of another
    number of rows.
    """
    codec = CODECS.find(record.encoding)
    # Where every sample was left out, a shard has no chunk.
    return codec.read(states, record, rows) if rows else codec.empty(record)


def array_files(record: ArrayRecord) -> list[str]:
    """The files below a shard's Zarr group that hold an array of at least one row."""
    return CODECS.find(record.encoding).files(record)

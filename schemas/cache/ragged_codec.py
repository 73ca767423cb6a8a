"""A codec whose rows are strings of bytes of differing lengths: three plain Zarr arrays, mapped, in their own group.

PATH/data    uint8 [bytes]                all rows one after the other; of rows that are all empty, one byte
PATH/sizes   uint16 [rows]                bytes of each row
PATH/starts  int64 [ceil(rows / 64) + 1]  where rows 0, 64, 128, ... begin in data, and the end
"""

from pathlib import Path
from typing import Any

import numpy as np

from schemas.cache.arrays import ArrayRecord
from schemas.cache.chunk import check_chunk, check_node, chunk_file, write_chunk
from schemas.cache.codec import Codec, attributes, readable
from schemas.cache.ragged import STRIDE, RaggedArray, RaggedRows, make_starts
from schemas.cache.stored_files import Numbers, StoredFiles, TrustedFiles
from schemas.cache.ways_out import redo
from schemas.errors import CacheError

PARTS: dict[str, np.dtype[Any]] = {"data": np.dtype("u1"), "sizes": np.dtype("<u2"), "starts": np.dtype("<i8")}


class Ragged(Codec):
    """What a row's bytes mean is the kind's to say, or that of who decodes them."""

    mapped = True

    def require(self, array: ArrayRecord, values: Any) -> None:
        """Raises ValueError unless `values` are RaggedRows whose sizes are those of their bytes."""
        if not isinstance(values, RaggedRows):
            raise ValueError(f"{array.path}: {type(values).__name__} is not RaggedRows")
        if values.data.dtype != PARTS["data"] or values.sizes.dtype != PARTS["sizes"]:
            raise ValueError(f"{array.path}: {values.data.dtype} of {values.sizes.dtype} is not uint8 of uint16")
        if (total := int(values.bounds[-1])) != len(values.data):
            raise ValueError(f"{array.path}: rows of {total:,} bytes, and there are {len(values.data):,}")

    def stored(self, array: ArrayRecord, rows: int) -> tuple[np.dtype[Any], tuple[int, ...]]:
        """uint8 [rows]: what each row is a string of."""
        return PARTS["data"], (rows,)

    def write(self, group: Any, array: ArrayRecord, values: RaggedRows) -> None:
        """See `Codec.write`."""
        own = group.create_group(array.path, attributes=_attributes(array))
        data = values.data if len(values.data) or not len(values) else np.zeros(1, np.uint8)  # no file maps as nothing
        for name, numbers in (("data", data), ("sizes", values.sizes), ("starts", make_starts(values.sizes))):
            write_chunk(own, name, numbers)

    def read(self, states: Path, array: ArrayRecord, rows: int) -> RaggedArray:
        """See `Codec.read`."""
        return self.open(TrustedFiles(states), array, rows)

    def open(self, files: StoredFiles, array: ArrayRecord, rows: int) -> RaggedArray:
        """See `Codec.open`. Reads the last start alone: what the sizes say is for `check` to prove."""

        def map_part(name: str, length: int) -> Numbers:
            path = chunk_file(f"{array.path}/{name}", 1)
            with readable(files.folder / path):
                return files.map(path, PARTS[name], (length,))

        starts, sizes = map_part("starts", -(-rows // STRIDE) + 1), map_part("sizes", rows)
        end = int(starts[len(starts) - 1 :][0])
        if end < 0:
            path = files.folder / chunk_file(f"{array.path}/starts", 1)
            raise CacheError(f"{path} says that the rows end at {end}; {redo(path)}")
        data = map_part("data", max(1, end))
        return RaggedArray(data if end else data[:0], sizes, starts)

    def empty(self, array: ArrayRecord) -> RaggedArray:
        """No rows."""
        sizes = np.empty(0, PARTS["sizes"])
        return RaggedArray(np.empty(0, np.uint8), sizes, make_starts(sizes))

    def files(self, array: ArrayRecord) -> list[str]:
        """The chunks of data, sizes and starts."""
        return [chunk_file(f"{array.path}/{name}", 1) for name in PARTS]

    def check(self, states: Path, array: ArrayRecord, rows: int) -> None:
        """See `Codec.check`: the metadata of the group and of its three arrays; and that sizes and starts agree."""
        path = states / array.path
        wanted = {"zarr_format": 3, "node_type": "group", "attributes": _attributes(array)}
        check_node(path, wanted, f"{path} is not a Zarr group")
        values = self.read(states, array, rows) if rows else self.empty(array)
        values.check(path)
        lengths = {"data": max(len(values.data), min(rows, 1)), "sizes": rows, "starts": len(values.starts)}
        for name, length in lengths.items():
            check_chunk(path / name, PARTS[name], (length,), {})

    def are_finite(self, array: ArrayRecord, values: RaggedRows) -> np.ndarray:
        """[N] bool: bytes are not numbers yet."""
        return np.ones(len(values), bool)


def _attributes(array: ArrayRecord) -> dict[str, Any]:
    return attributes(array) | {"width": array.width}

"""Numbers as 16-bit codes, in units of a 65535th of the largest: two Zarr arrays for one of ours."""

from pathlib import Path
from typing import Any

import numpy as np

from schemas.cache.arrays import ArrayRecord
from schemas.cache.codec import Codec
from schemas.errors import CacheError


class Coarse(Codec):
    """x ~ code * unit, for x >= 0."""

    name = "coarse"

    def write(self, group: Any, array: ArrayRecord, values: np.ndarray) -> None:
        unit = np.array([values.max(initial=0) / 65535], "<f8")
        codes = np.round(values / (unit[0] or 1)).astype("<u2")
        for name, numbers in (("codes", codes), ("unit", unit)):
            stored = group.create_array(
                f"{array.path}/{name}",
                shape=numbers.shape,
                chunks=numbers.shape,
                dtype=numbers.dtype,
                compressors=None,
                config={"write_empty_chunks": True},
            )
            stored[...] = numbers

    def read(self, states: Path, array: ArrayRecord, rows: int) -> np.ndarray:
        codes_file, unit_file = self.files(array)
        codes, unit = np.fromfile(states / codes_file, "<u2"), np.fromfile(states / unit_file, "<f8")
        if codes.shape != array.shape(rows):
            raise CacheError(f"{states / array.path} has {len(codes)} codes instead of {rows}")
        return np.asarray(codes * unit[0], "<f4")

    def files(self, array: ArrayRecord) -> list[str]:
        return [f"{array.path}/codes/c/0", f"{array.path}/unit/c/0"]

    def bytes_per_row(self, array: ArrayRecord) -> float:
        return 2.0


CODEC = Coarse()

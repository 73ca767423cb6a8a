"""Hidden states as one byte per value and one scale per row: [rows, d + 4] bytes, the scale as float32 at the end."""

from typing import Any

import numpy as np

from schemas.cache.arrays import ArrayRecord
from schemas.cache.codec import Mapped

SCALE_BYTES = 4


class RowScaled(Mapped):
    """The array's record says what the states were: d numbers of its dtype."""

    def stored(self, array: ArrayRecord, rows: int) -> tuple[np.dtype[Any], tuple[int, ...]]:
        """uint8 [rows, d + 4]."""
        return np.dtype("u1"), (rows, (array.width or 1) + SCALE_BYTES)

    def are_finite(self, array: ArrayRecord, values: np.ndarray) -> np.ndarray:
        """[N] bool: the row's scale is a finite number."""
        scales = np.ascontiguousarray(values[:, -SCALE_BYTES:]).view("<f4")
        return np.asarray(np.isfinite(scales[:, 0]))

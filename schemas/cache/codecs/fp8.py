"""Hidden states as 8-bit floats (E4M3, without infinities), in units of the row's scale."""

import numpy as np

from schemas.cache.arrays import ArrayRecord
from schemas.cache.row_scaled import SCALE_BYTES, RowScaled

NOT_A_NUMBER = 0x7F  # beside its sign


class Float8(RowScaled):
    """x ~ scale * code, the code as float8_e4m3fn."""

    name = "fp8"

    def are_finite(self, array: ArrayRecord, values: np.ndarray) -> np.ndarray:
        """[N] bool: neither the scale nor a code is anything but a number."""
        numbers = (values[:, :-SCALE_BYTES] & NOT_A_NUMBER) != NOT_A_NUMBER
        return np.asarray(super().are_finite(array, values) & numbers.all(axis=1))


CODEC = Float8()

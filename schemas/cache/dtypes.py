"""The types of numbers in a cache. NumPy and Zarr have no bfloat16: its bits lie on disk as uint16."""

from typing import Any, Literal

import numpy as np

Dtype = Literal["float32", "bfloat16", "float16"]
ArrayDtype = Dtype | Literal["int32", "uint8"]
STORED: dict[str, np.dtype[Any]] = {
    "float32": np.dtype("<f4"),
    "float16": np.dtype("<f2"),
    "bfloat16": np.dtype("<u2"),
    "int32": np.dtype("<i4"),
    "uint8": np.dtype("u1"),
}


def widened(stored: np.ndarray) -> np.ndarray:
    """Numbers in their stored form, with bfloat16 as float32, of which its bits are the upper half."""
    if stored.dtype != STORED["bfloat16"]:
        return stored
    numbers: np.ndarray = (stored.astype("<u4") << 16).view("<f4")
    return numbers

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

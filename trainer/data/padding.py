"""Rows of several lengths as one tensor, padded on the right.

Shapes: B samples, X tokens of the longest.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def pad_rows(rows: Sequence[np.ndarray], value: int) -> Tensor:
    """[B, X] long of integers, or bool of booleans; `value` stands where a row has ended."""
    dtype = bool if rows[0].dtype == bool else np.int64
    padded_BX = np.full((len(rows), max(map(len, rows))), value, dtype)
    for place, row in enumerate(rows):  # by NumPy, which takes a tenth of torch's time for a short row
        padded_BX[place, : len(row)] = row
    return torch.from_numpy(padded_BX)


def lengths_mask(lengths: Sequence[int], width: int) -> Tensor:
    """[B, width] bool: the first `lengths[b]` places of each row."""
    return torch.arange(width)[None, :] < torch.tensor(lengths)[:, None]

"""Rows of several lengths as one tensor, padded on the right.

Shapes: B samples, X tokens of the longest.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def pad_rows(rows: Sequence[np.ndarray], value: int) -> Tensor:
    """[B, X] long of integers, or bool of booleans; `value` stands where a row has ended."""
    dtype = torch.bool if rows[0].dtype == bool else torch.long
    padded_BX = torch.full((len(rows), max(len(row) for row in rows)), value, dtype=dtype)
    for place, row in enumerate(rows):
        padded_BX[place, : len(row)] = torch.from_numpy(row)
    return padded_BX


def lengths_mask(lengths: Sequence[int], width: int) -> Tensor:
    """[B, width] bool: the first `lengths[b]` places of each row."""
    return torch.arange(width)[None, :] < torch.tensor(lengths)[:, None]

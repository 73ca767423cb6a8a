"""The arrays of a work unit while they are made: which rows are whose, and which of them are no numbers.

Shapes: N rows of one array, K tokens that are kept.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pipeline.corpus.sample import AnnotatedSample
from schemas.cache.arrays import ArrayRecord
from schemas.cache.dtypes import STORED
from schemas.cache.row_units import Unit, count_rows_by_unit
from schemas.cache.token_rows import count_rows, row_positions


class UnitRows:
    """Room for the rows of some samples, in order. `stored` holds the arrays by path."""

    def __init__(self, samples: Sequence[AnnotatedSample], arrays: Sequence[ArrayRecord], causal: bool):
        """`causal` says which pairs of tokens there are, as in `count_rows_by_unit`. Takes the memory at once."""
        counts = _count(samples, causal)
        used: set[Unit] = {"tokens", *(array.unit for array in arrays)}
        self._starts = {unit: np.cumsum([0, *counts[unit]]) for unit in used}
        self.stored = {a.path: np.empty(a.shape(int(self._starts[a.unit][-1])), STORED[a.dtype]) for a in arrays}

    def of_sample(self, number: int, array: ArrayRecord) -> Tensor:
        """The rows of one sample, over the same memory."""
        first = self._starts[array.unit]
        return _as_tensor(self.stored[array.path], array)[first[number] : first[number + 1]]

    def places(self, batch: Sequence[int]) -> dict[Unit, np.ndarray]:
        """Of each unit, which rows are those of these samples, [N]."""
        return {
            unit: np.concatenate([np.arange(first[i], first[i + 1]) for i in batch])
            for unit, first in self._starts.items()
        }

    def store(self, places: dict[Unit, np.ndarray], array: ArrayRecord, values_Nx: Tensor) -> None:
        """Put the rows of a batch, in the array's dtype and on the CPU, in their places."""
        self.stored[array.path][places[array.unit]] = _as_numpy(values_Nx)


def kept_tokens(samples: Sequence[AnnotatedSample]) -> Tensor:
    """[K] long: which of the samples' tokens, concatenated, are kept."""
    starts = np.cumsum([0, *(len(sample.token_ids) for sample in samples)])
    kept = [row_positions(sample.token_rows) + start for sample, start in zip(samples, starts, strict=False)]
    return torch.from_numpy(np.concatenate(kept))


def owner(row: int, array: ArrayRecord, samples: Sequence[AnnotatedSample], causal: bool) -> int:
    """Which of a batch's samples has that row of an array."""
    return int(np.searchsorted(np.cumsum(_count(samples, causal)[array.unit]), row, side="right"))


def total(values_Nx: Tensor) -> Tensor:
    """Their sum in float32: finite unless one of them is not, or it overflows. A tenth of the cost of all."""
    return values_Nx.sum(dtype=torch.float32)


def first_not_finite(values_Nx: Tensor, total: Tensor) -> int | None:
    """The first row with a number that is not finite. They are looked at only where their `total` is not finite."""
    if total.isfinite():
        return None
    finite_N = finite_rows(values_Nx)
    return None if finite_N.all() else int(finite_N.int().argmin())


def finite_rows(values_Nx: Tensor) -> Tensor:
    """[N] bool: which rows hold finite numbers alone."""
    return values_Nx.isfinite().view(len(values_Nx), -1).all(1)


def _count(samples: Sequence[AnnotatedSample], causal: bool) -> dict[Unit, np.ndarray]:
    lengths, kept = [len(s.token_ids) for s in samples], [count_rows(s.token_rows) for s in samples]
    return count_rows_by_unit(lengths, kept, causal)


def _as_numpy(values: Tensor) -> np.ndarray:
    """The same memory; NumPy holds bfloat16 as uint16."""
    return (values.view(torch.uint16) if values.dtype == torch.bfloat16 else values).numpy()


def _as_tensor(stored: np.ndarray, array: ArrayRecord) -> Tensor:
    """A tensor over the same memory; NumPy holds bfloat16 as uint16."""
    tensor = torch.from_numpy(stored)
    return tensor.view(torch.bfloat16) if array.dtype == "bfloat16" else tensor

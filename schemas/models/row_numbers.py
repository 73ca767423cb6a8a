"""Rows as they lie in a cache, as numbers: decoded where they are encoded. Shapes: N rows."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from schemas.cache.arrays import ArrayRecord
from schemas.cache.codec import CODECS
from schemas.cache.dtypes import STORED, widened
from schemas.cache.manifest import CacheManifest
from schemas.cache.ragged import RaggedRows
from schemas.models.state_decoder import DECODERS, load_decoders


class RowNumbers:
    """Numbers of the arrays of one cache."""

    def __init__(self, cache: Path, manifest: CacheManifest):
        """Raises CacheError: a decoder's tables are missing or unusable."""
        self._decoders = load_decoders(cache, manifest)

    def of(self, rows: Any, array: ArrayRecord) -> np.ndarray | None:
        """Float64 [N, ...]; None of rows that are not numbers, as packed draws are not."""
        if array.encoding in DECODERS:
            ragged = isinstance(rows, RaggedRows)
            data = rows.data if ragged else rows.reshape(-1)
            sizes = rows.sizes.astype(np.int32) if ragged else np.full(len(rows), rows.shape[1], np.int32)
            decoder = self._decoders[array.kind, array.layer]
            with torch.no_grad():
                states = decoder.states(torch.from_numpy(data.copy()), torch.from_numpy(sizes))
            decoded: np.ndarray = states.double().numpy()
            return decoded
        if isinstance(rows, RaggedRows) or CODECS.find(array.encoding).stored(array, 1)[0] != STORED[array.dtype]:
            return None
        return plain_numbers(rows, array.dtype)


def plain_numbers(rows: np.ndarray, dtype: str) -> np.ndarray:
    """Float64, of numbers in the stored form of a dtype."""
    numbers: np.ndarray = (widened(rows) if dtype == "bfloat16" else rows).astype(np.float64)
    return numbers

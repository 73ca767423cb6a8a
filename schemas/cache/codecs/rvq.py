"""Hidden states as residual vector codes: a row may stop after any stage, and so is as long as it needs to be.

A row of exactly 2 d bytes is the state itself in bfloat16; a coded row is always shorter. Tables of each layer, in
CACHE/codecs/, say what the codes mean.
"""

import numpy as np

from schemas.cache.arrays import ArrayRecord
from schemas.cache.codec import finite_numbers
from schemas.cache.ragged import RaggedRows
from schemas.cache.ragged_codec import Ragged

USUAL = 3 / 8  # bytes per value, of a final layer


class ResidualCodes(Ragged):
    """Gain and codes of each row, or the row."""

    name = "rvq"

    def are_finite(self, array: ArrayRecord, values: RaggedRows) -> np.ndarray:
        """[N] bool: rows that are states hold finite numbers. Codes cannot be anything else."""
        raw_bytes = 2 * (array.width or 1)
        finite = np.ones(len(values), bool)
        raw = np.flatnonzero(values.sizes == raw_bytes)
        bits = values.data[values.bounds[raw, None] + np.arange(raw_bytes)].view("<u2")
        finite[raw] = finite_numbers("bfloat16", bits).all(axis=1)
        return finite

    def bytes_per_row(self, array: ArrayRecord) -> float:
        """About three bits per value."""
        return (array.width or 1) * USUAL


CODEC = ResidualCodes()

"""Random next tokens as multisets: see schemas.cache.packed_draws. The array's width is the number of draws."""

from schemas.cache.arrays import ArrayRecord
from schemas.cache.ragged_codec import Ragged

# Bytes per draw, of 50 from the distributions of SmolLM2 and Gemma 3: 16 of these are distinct, and 25 where they weigh
# differently and so were drawn from a flatter distribution.
ALIKE, WEIGHTED = 0.73, 2.0
SIZE_BYTES = 2


class Draws(Ragged):
    """`dtype` says whether rows hold weights: float16, or uint8 if there are none."""

    name = "draws"

    def bytes_per_row(self, array: ArrayRecord) -> float:
        """As was measured, and where the row's size is written."""
        return SIZE_BYTES + (array.width or 1) * (WEIGHTED if array.dtype == "float16" else ALIKE)


CODEC = Draws()

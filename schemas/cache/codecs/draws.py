"""Random next tokens as multisets: see schemas.cache.packed_draws. The array's width is the number of draws."""

from schemas.cache.arrays import ArrayRecord
from schemas.cache.ragged_codec import Ragged

# Bytes per draw of 50 from real models, and distinct ids among them; of more draws, fewer are distinct.
USUAL, DISTINCT = 0.85, 0.36


class Draws(Ragged):
    """`dtype` says whether rows hold weights: float16, or uint8 if there are none."""

    name = "draws"

    def bytes_per_row(self, array: ArrayRecord) -> float:
        """As was measured, and the size."""
        draws = array.width or 1
        return 2 + draws * USUAL + (4 + 2 * DISTINCT * draws if array.dtype == "float16" else 0)


CODEC = Draws()

"""How many rows of logits are looked at together: one loop for all passes, in as much memory as each is given.

On a CPU what is computed at once should stay in its cache or at least be reused from there; on a GPU it must be large
enough to keep the machine busy.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from trainer.student.logits import Logits


@dataclass(frozen=True)
class Chunks:
    """Numbers in one matrix of a pass over logits, by what it is for. Any value gives the same loss, to rounding."""

    rows: int  # logits of either side, and what is made of them
    product: int  # one product of the teacher's head in `forward_kl`
    block: int  # [rows, compared columns] there, or a quarter of the student's logits of these rows


ON_CPU = Chunks(rows=1 << 22, product=1 << 23, block=1 << 18)
ON_GPU = Chunks(rows=1 << 25, product=1 << 25, block=1 << 22)  # 128 MB of float32


def chunks_for(like: Tensor | Logits, chunks: Chunks | None) -> Chunks:
    """`chunks`, or, left out, those of the device of `like`."""
    return chunks or (ON_GPU if like.device.type == "cuda" else ON_CPU)


def slices(start: int, stop: int, size: int) -> Iterator[slice]:
    """start..stop in successive slices of `size`, or of 1 if that is 0."""
    size = max(1, size)
    for first in range(start, stop, size):
        yield slice(first, min(first + size, stop))

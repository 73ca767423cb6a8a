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

    rows: int  # logits of either side, and what a loss of single rows makes of them
    product: int  # one product of the student's head, or of the teacher's beside it
    block: int  # [rows, compared columns] of `forward_kl`, or a quarter of the student's logits of these rows


ON_CPU = Chunks(rows=1 << 22, product=1 << 23, block=1 << 18)
# A product has 880 rows of 152,000 numbers: 270 MB of a student in bfloat16, beside 530 MB of its teacher in float32.
# Half of that makes a step of 8,192 tokens 5 % longer on an H200, since every chunk adds to the head's whole gradient;
# twice that saves 2 %. Losses without a kernel (`fused`) make up to ten matrices of `rows` or `block` at once.
ON_GPU = Chunks(rows=1 << 26, product=1 << 27, block=1 << 26)


def chunks_for(like: Tensor | Logits, chunks: Chunks | None) -> Chunks:
    """`chunks`, or, left out, those of the device of `like`."""
    return chunks or (ON_GPU if like.device.type == "cuda" else ON_CPU)


def slices(start: int, stop: int, size: int) -> Iterator[slice]:
    """start..stop in successive slices of `size`, or of 1 if that is 0."""
    size = max(1, size)
    for first in range(start, stop, size):
        yield slice(first, min(first + size, stop))

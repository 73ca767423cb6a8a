"""One pass over logits for two losses: rows that a loss compares, and the cross-entropy that comes along.

Shapes: X student positions, V student vocabulary; n rows and p positions of one chunk.
"""

from collections.abc import Callable

from torch import Tensor

from trainer.objectives.kernels.carried import CarriedCrossEntropy
from trainer.objectives.kernels.chunks import Chunks, chunks_for, slices
from trainer.objectives.kernels.fused import is_fused
from trainer.objectives.kernels.logit_pass import LogitPass, pass_over
from trainer.objectives.kernels.pooled_rows import Rows
from trainer.student.logits import Logits

# Of some rows, which are their members' logits [p, V]: the value, and the gradient [p, V], written into the last, which
# may be the logits themselves; else these are only read.
Compare = Callable[[slice, slice, Tensor, Tensor], Tensor]


def pass_rows(
    made: LogitPass,
    rows: Rows,
    compare: Compare,
    carried: CarriedCrossEntropy | None,
    sizes: Chunks,
    fused: bool = False,
) -> Tensor:
    """The sum of `compare` over chunks of rows; what cross-entropy alone wants comes after them.

    `compare` gets the rows, their members among all, their logits, and room for their gradient; if it is `fused`, both
    in the dtype of the head's product.
    Logits are made `sizes.product` numbers at a time, and cross-entropy alone reads `sizes.block` of them.
    """
    total, size = made.zero(), max(1, sizes.product // made.vocabulary)
    for chunk in rows.chunks(size):
        members = rows.members(chunk)
        positions = rows.positions(members)
        logits_pV = made.product(positions) if fused else made.rows(positions)
        gradient_pV = made.room(logits_pV)
        total += compare(chunk, members, logits_pV, gradient_pV)
        made.put(positions, logits_pV, gradient_pV)
    if carried is not None:
        outside = rows.outside(len(made.hidden_Xd))
        _entropy_alone(made, outside[carried.wanted_X[outside]], carried, size, sizes.block)
    return total


def pass_carrying(
    logits: Tensor | Logits,
    run: Callable[[LogitPass], Tensor],
    expected: float,
    carried: CarriedCrossEntropy | None,
) -> Tensor:
    """The scalar of `run`, whose gradient it multiplies with `expected`; `carried.total` gets a gradient, too."""
    if carried is None:
        (total,) = pass_over(logits, lambda made: (run(made),), [expected])
        return total
    total, carried.total = pass_over(logits, lambda made: (run(made), carried.total), [expected, carried.scale])
    return total


def pass_entropy(logits: Tensor | Logits, carried: CarriedCrossEntropy, chunks: Chunks | None = None) -> Tensor:
    """Cross-entropy by itself, a scalar with a gradient to `logits` that can be asked for once."""
    sizes = chunks_for(logits, chunks)

    def run(made: LogitPass) -> tuple[Tensor]:
        where = carried.wanted_X.nonzero().squeeze(1)
        _entropy_alone(made, where, carried, max(1, sizes.product // made.vocabulary), sizes.block)
        return (carried.total,)

    (total,) = pass_over(logits, run, [carried.scale])
    return total


def _entropy_alone(made: LogitPass, rest: Tensor, carried: CarriedCrossEntropy, size: int, block: int) -> None:
    """Cross-entropy at the positions `rest`."""
    fused = is_fused(made.hidden_Xd)
    for chunk in slices(0, len(rest), size):
        logits_pV = made.product(rest[chunk]) if fused else made.rows(rest[chunk])
        gradient_pV = made.room(logits_pV)
        for part in slices(0, len(logits_pV), block // made.vocabulary):
            carried.write(rest[chunk][part], logits_pV[part], gradient_pV[part])
        made.put(rest[chunk], logits_pV, gradient_pV)

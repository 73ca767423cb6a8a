"""Losses of single predictions over tens of thousands of tokens, in bounded memory.

A loss says what a few rows are worth, and the gradient to their logits; everything is computed a chunk of rows at a
time, and the gradient goes through the student's head on the way (`logit_pass`).

Shapes: X student positions, V student vocabulary, R rows; n rows of one chunk.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from trainer.objectives.kernels.carried import CarriedCrossEntropy
from trainer.objectives.kernels.chunks import Chunks, chunks_for, slices
from trainer.objectives.kernels.logit_pass import LogitPass
from trainer.objectives.kernels.pooled_rows import Rows
from trainer.objectives.kernels.row_pass import pass_carrying, pass_rows
from trainer.student.logits import Logits

RowLoss = Callable[[Tensor, slice], tuple[Tensor, Tensor]]


def row_losses(
    logits: Tensor | Logits,
    position_R: Tensor,
    widest: int,
    row_loss: RowLoss,
    factor_R: Tensor | None = None,
    carried: CarriedCrossEntropy | None = None,
    chunks: Chunks | None = None,
) -> Tensor:
    """sum_r factor_r loss_r, or the plain sum: a scalar, with a gradient to `logits` that can be asked for once.

    `logits` are [..., V]; `position_R` are distinct, of all leading axes flattened. `row_loss` gets the logits of some
    rows, [n, V] in float32 or more, and which rows they are; it may overwrite them, and returns the losses [n] and
    their gradient [n, V]. A matrix of `widest` columns holds up to `chunks.rows` numbers.

    With `carried`, its value is in `carried.total`; the objective multiplies the result with `carried.carrier_scale`.
    """
    expected = 1.0 if carried is None else carried.carrier_scale
    sizes = chunks_for(logits, chunks)
    one_R = torch.ones(len(position_R), device=position_R.device)
    factor_R = one_R if factor_R is None else factor_R
    rows = Rows(position_R, torch.arange(len(position_R), device=position_R.device), one_R, len(position_R))

    def run(made: LogitPass) -> Tensor:
        """The sum of the losses, whose gradient goes through the head."""
        scale_R = factor_R.to(made.zero().dtype)

        def compare(chunk: slice, members: slice, logits_pV: Tensor, gradient_pV: Tensor) -> Tensor:
            """As `Compare`; every row is its own and only member."""
            total = made.zero()
            for block in slices(chunk.start, chunk.stop, sizes.rows // widest):
                here = slice(block.start - chunk.start, block.stop - chunk.start)
                # The loss may overwrite what it is given; the gradient may be written over the logits.
                is_read = carried is not None or gradient_pV is not logits_pV
                given_nV = logits_pV[here].clone() if is_read else logits_pV[here]
                loss_n, gradient_nV = row_loss(given_nV, block)
                if carried is None:
                    torch.mul(gradient_nV, expected * scale_R[block, None], out=gradient_pV[here])
                else:
                    carried.write(rows.positions(block), logits_pV[here], gradient_pV[here])
                    gradient_pV[here].addcmul_(gradient_nV, expected * scale_R[block, None])
                total += torch.dot(scale_R[block], loss_n)
            return total

        return pass_rows(made, rows, compare, carried, sizes)

    return pass_carrying(logits, run, expected, carried)

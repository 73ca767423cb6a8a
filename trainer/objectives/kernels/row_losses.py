"""Losses of single predictions over tens of thousands of tokens, in bounded memory.

A loss says what a few rows are worth, and the gradient to their logits; everything is computed a chunk of rows at a
time. What is kept is one matrix of the logits' shape, in float32 or more, which the backward pass scales and hands
over: what is rounded to bfloat16 is rounded once.

Shapes: X student positions, V student vocabulary, R rows; n rows of one chunk.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from trainer.numerics.geometry import at_least_float32
from trainer.objectives.kernels.chunks import Chunks, chunks_for, slices

RowLoss = Callable[[Tensor, slice], tuple[Tensor, Tensor]]


def row_losses(
    logits_XV: Tensor, position_R: Tensor, widest: int, row_loss: RowLoss, chunks: Chunks | None = None
) -> Tensor:
    """The loss of every row, [R], with a gradient to `logits_XV`, which can be asked for once.

    `position_R` are distinct. `row_loss` gets the logits of some rows, [n, V] in float32 or more, and which rows they
    are; it may overwrite them, and returns the losses [n] and their gradient [n, V]. A matrix of `widest` columns holds
    up to `chunks.rows` numbers.
    """
    losses: Tensor = _RowLosses.apply(logits_XV, position_R, widest, row_loss, chunks)
    return losses


class _RowLosses(torch.autograd.Function):
    """Losses [R] of logits [X, V]. `row_loss` gives their gradient with them, a chunk of rows at a time."""

    @staticmethod
    def forward(
        ctx: Any, logits_XV: Tensor, position_R: Tensor, widest: int, row_loss: RowLoss, chunks: Chunks | None
    ) -> Tensor:
        """The losses [R] in float32 or more."""
        dtype = torch.promote_types(logits_XV.dtype, torch.float32)
        gradient_XV = torch.zeros_like(logits_XV, dtype=dtype) if ctx.needs_input_grad[0] else None
        losses = [at_least_float32(logits_XV.new_zeros(0))]
        for chunk in slices(0, len(position_R), chunks_for(logits_XV, chunks).rows // widest):
            position_n = position_R[chunk]
            loss_n, gradient_nV = row_loss(at_least_float32(logits_XV[position_n]), chunk)
            losses.append(loss_n)
            if gradient_XV is not None:
                gradient_XV.index_copy_(0, position_n, gradient_nV)
        ctx.gradient_XV, ctx.position_R, ctx.dtype = gradient_XV, position_R, logits_XV.dtype
        return torch.cat(losses)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream_R: Tensor) -> tuple[Tensor, None, None, None, None]:
        gradient_XV, ctx.gradient_XV = ctx.gradient_XV, None
        if gradient_XV is None:
            raise RuntimeError("the gradient of row_losses was handed over already; compute the loss again")
        upstream_X = upstream_R.new_zeros(len(gradient_XV)).index_copy_(0, ctx.position_R, upstream_R)
        return gradient_XV.mul_(upstream_X[:, None]).to(ctx.dtype), None, None, None, None

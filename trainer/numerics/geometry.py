"""Directions and the angles between them: cosines that are safe at zero, and the geometry of a set of spans.

The geometry of K spans is a K x K matrix of cosines per sample, one batched matrix product; at 1,024 spans and 16
samples that is 64 MB, at 256 spans 4 MB.

Shapes: B samples, K spans, d width; `...` is any number of leading axes.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Squared norms below this are a state of no direction. Its cosine to anything is 0, and so is its gradient, where the
# formula has 0/0 and the usual |x| + eps would send a gradient of 1/eps through the model.
ZERO_NORM = 1e-12


def at_least_float32(x: Tensor) -> Tensor:
    """`x` in float32, or float64 if it is that already: half has too few digits for differences of cosines."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def unit(x: Tensor) -> Tensor:
    """x / |x| over the last axis; 0, with gradient 0, where |x| is 0."""
    square = x.square().sum(-1, keepdim=True)
    directed = square > ZERO_NORM
    # The inner `where` keeps rsqrt away from 0, whose infinite slope would turn the masked gradient into NaN.
    return x * torch.where(directed, torch.where(directed, square, 1.0).rsqrt(), 0.0)


def cosine_distance(u: Tensor, v: Tensor) -> Tensor:
    """d(u, v) = 1 - cos(u, v) over the last axis: [..., d], [..., d] -> [...], in 0..2."""
    return 1.0 - (unit(u) * unit(v)).sum(-1)


def cosines(x_BKd: Tensor) -> Tensor:
    """cos(x_i, x_j) of all pairs within a sample: [B, K, K]."""
    direction_BKd = unit(x_BKd)
    return direction_BKd @ direction_BKd.mT


def geometry_sums(student_BKd: Tensor, teacher_BKe: Tensor, weight_BK: Tensor) -> tuple[Tensor, Tensor]:
    """How far two sets of spans differ in shape, as numerator and denominator of a weighted mean, [B] and [B]:

        sum_{i != j} w_i w_j (cos(s_i, s_j) - cos(t_i, t_j))^2   and   sum_{i != j} w_i w_j

    A difference of cosine distances is one of cosines, so this serves SRA's L_geo and MTA's L_DSA alike. The two sides
    may differ in width. Spans of weight 0 count for nothing and get no gradient. Weights and teacher are constants.
    """
    pair_BKK = weight_BK[:, :, None] * weight_BK[:, None, :]
    pair_BKK.diagonal(dim1=1, dim2=2).zero_()
    gaps_B: Tensor = _SquaredGaps.apply(unit(student_BKd), cosines(teacher_BKe), pair_BKK)
    return gaps_B, pair_BKK.sum((1, 2))


class _SquaredGaps(torch.autograd.Function):
    """sum_ij pair_ij (s_i . s_j - c_ij)^2 of each sample, [B], for a symmetric `pair`; it and c are constants.

    As all is symmetric, the gradient to s_i, 4 sum_j pair_ij gap_ij s_j, is one product, where autograd takes two, and
    it is as wide as a state, where autograd keeps K x K matrices.
    """

    @staticmethod
    def forward(ctx: Any, direction_BKd: Tensor, cosine_BKK: Tensor, pair_BKK: Tensor) -> Tensor:
        gap_BKK = (direction_BKd @ direction_BKd.mT).sub_(cosine_BKK)
        weighted_BKK = pair_BKK * gap_BKK
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(4 * (weighted_BKK @ direction_BKd))
        return (weighted_BKK * gap_BKK).sum((1, 2))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream_B: Tensor) -> tuple[Tensor, None, None]:
        (gradient_BKd,) = ctx.saved_tensors
        return upstream_B[:, None, None] * gradient_BKd, None, None


def ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """numerator / denominator, and 0 with gradient 0 where the denominator is 0: a mean over nothing adds nothing."""
    some = denominator > 0
    return torch.where(some, numerator / torch.where(some, denominator, 1.0), 0.0)

"""Forward KL between a teacher's and a student's distributions over tens of thousands of tokens, in bounded memory.

Both sides are computed a few rows at a time, so teacher logits never exist for more than a chunk, and the gradient,
softmax(z_S / tau) - softmax(z_T / tau), is written down on the way. It is one matrix of the logits' shape, in float32
or more, which the backward pass scales and hands over: what is rounded to bfloat16 is rounded once. Plain autograd
keeps several more, and takes twice the time. Cross-entropy can come along: its gradient goes into the same matrix while
the logits are at hand.

Shapes: X student positions, V student vocabulary, R rows (token positions or spans), N compared columns; n rows and p
positions of one block.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from trainer.numerics.geometry import at_least_float32
from trainer.objectives.kernels.carried import CarriedCrossEntropy
from trainer.objectives.kernels.chunks import Chunks, chunks_for, slices
from trainer.objectives.kernels.pooled_rows import Columns, Rows

ROUNDING = 1e-6  # of a factor, multiplied up in another order
NEAR = 8.0  # about as far from 0 as log-probabilities over a vocabulary are


def forward_kl(
    logits: Tensor,
    rows: Rows,
    columns: Columns,
    teacher_logits: Callable[[slice], Tensor],
    factor_R: Tensor,
    temperature: float,
    carried: CarriedCrossEntropy | None = None,
    weight: float = 1.0,
    chunks: Chunks | None = None,
) -> Tensor:
    """sum_r factor_r KL(softmax(z^T_r / tau) || softmax(z^S_r / tau)), a scalar with a gradient to `logits` alone.

    `logits` are [..., V], of X positions in all; z^S is they, pooled into `rows` and restricted to `columns`.
    `teacher_logits` computes z^T / tau of a slice of rows, [n, N], which is then overwritten. The gradient can be asked
    for once.

    With `carried`, its value is in `carried.total`, with a gradient to `logits` too. `weight` is then what the caller
    multiplies the result with before the objective does with `carried.carrier_scale`: whoever backpropagates through
    both at other scales gets a RuntimeError.
    """
    expected = 1.0 if carried is None else carried.carrier_scale * weight
    arguments = (rows, columns, teacher_logits, factor_R, temperature, carried, expected, chunks)
    total, entropy = _ForwardKL.apply(logits, *arguments)
    if carried is not None:
        carried.total = entropy
    kl: Tensor = total
    return kl


class _ForwardKL(torch.autograd.Function):
    """The sum and, beside it, the carried cross-entropy. The gradient to the logits is made with the value."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        rows: Rows,
        columns: Columns,
        teacher_logits: Callable[[slice], Tensor],
        factor_R: Tensor,
        temperature: float,
        carried: CarriedCrossEntropy | None,
        expected: float,
        chunks: Chunks | None,
    ) -> tuple[Tensor, Tensor]:
        """The total, a scalar, and the carried cross-entropy, a scalar that is 0 where nothing is carried."""
        logits_XV = logits.flatten(0, -2)
        # Multiplied already with the expected factor from above, which saves a pass over the whole matrix.
        gradient = _Gradient(logits, rows, expected * factor_R / temperature)  # always: nobody asks for the value alone
        total = at_least_float32(logits_XV.new_zeros(()))
        factor_R = factor_R.to(total.dtype)
        vocabulary = logits_XV.shape[1]
        sizes = chunks_for(logits_XV, chunks)
        for chunk in slices(0, rows.num_rows, sizes.product // columns.count):
            teacher_cN = teacher_logits(chunk).to(total.dtype)
            for block in slices(chunk.start, chunk.stop, sizes.block // max(columns.count, vocabulary // 4)):
                members = rows.members(block)
                positions, row_of_p = rows.positions(members), rows.row_of(block, members)
                logits_pV = at_least_float32(logits_XV[positions])
                pooled_nV = logits_pV if row_of_p is None else rows.pool(logits_pV, block, members)
                student_nN = columns.take(pooled_nV)
                teacher_nN = teacher_cN[block.start - chunk.start : block.stop - chunk.start]
                gradient_pV = gradient.rows(positions, logits_pV)
                kl_n = _kl_into(gradient_pV, student_nN, teacher_nN, temperature, columns, row_of_p)
                gradient_pV.mul_(gradient.scale_X[positions, None])
                if carried is not None:
                    carried.add(positions, logits_pV, gradient_pV)
                gradient.put(positions, gradient_pV)
                total += torch.dot(factor_R[block], kl_n)
        outside = rows.outside(len(logits_XV))
        gradient.whole_XV[outside] = 0
        if carried is not None:
            rest = outside[carried.wanted_X[outside]]
            for block in slices(0, len(rest), sizes.block // vocabulary):
                logits_pV = at_least_float32(logits_XV[rest[block]])
                gradient_pV = torch.zeros_like(logits_pV)
                carried.add(rest[block], logits_pV, gradient_pV)
                gradient.put(rest[block], gradient_pV)
        ctx.gradient, ctx.dtype, ctx.expected = gradient, logits.dtype, expected
        ctx.expected_entropy = None if carried is None else carried.scale
        ctx.set_materialize_grads(False)
        return total, total.new_zeros(()) if carried is None else carried.total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor | None, of_entropy: Tensor | None) -> tuple[Tensor | None, ...]:
        """Hands the gradient over once. Raises RuntimeError if asked again, or for one of two values."""
        gradient, ctx.gradient = ctx.gradient, None
        if gradient is None:
            raise RuntimeError("the gradient of forward_kl was handed over already; compute the loss again")
        if upstream is None or (of_entropy is None) != (ctx.expected_entropy is None):
            raise RuntimeError("forward_kl carries cross-entropy: both values are part of what is backpropagated")
        scale = upstream / ctx.expected
        if of_entropy is not None and not scale.is_cuda:
            _require_same_scale(scale, of_entropy / ctx.expected_entropy)
        if scale.is_cuda or abs(float(scale) - 1) > ROUNDING:  # on a GPU, asking would mean waiting
            gradient.whole.mul_(scale)
        return gradient.whole.to(ctx.dtype), *(None,) * 8


def _require_same_scale(of_kl: Tensor, of_entropy: Tensor) -> None:
    """One matrix holds both gradients, so it can be scaled as a whole only."""
    if abs(float(of_kl) - float(of_entropy)) > ROUNDING * abs(float(of_kl)):
        raise RuntimeError(
            f"cross-entropy was carried at {float(of_kl / of_entropy):.6g} of the scale that it is backpropagated "
            "with: the objective and `CarriedCrossEntropy` must have the same weights and counts"
        )


class _Gradient:
    """The gradient to all logits, as it is being written."""

    def __init__(self, logits: Tensor, rows: Rows, factor_R: Tensor):
        dtype = torch.promote_types(logits.dtype, torch.float32)
        # Of the logits' own shape: to a view of something else, autograd cannot add another loss's in place.
        self.whole = torch.empty(logits.shape, dtype=dtype, device=logits.device)
        self.whole_XV = self.whole.flatten(0, -2)
        # At each position a row's gradient is multiplied with its factor and with the position's share in it.
        self.scale_X = torch.zeros(len(self.whole_XV), dtype=dtype, device=logits.device)
        self.scale_X[rows.position_P] = (factor_R[rows.row_P] * rows.share_P).to(dtype)

    def rows(self, positions: slice | Tensor, like_pV: Tensor) -> Tensor:
        """Room for some rows: their own place, where that can be."""
        return self.whole_XV[positions] if isinstance(positions, slice) else torch.empty_like(like_pV)

    def put(self, positions: slice | Tensor, rows_pV: Tensor) -> None:
        """Rows to their place, if they are not there yet."""
        if not isinstance(positions, slice):
            self.whole_XV[positions] = rows_pV


def _kl_into(
    gradient_pV: Tensor,
    student_nN: Tensor,
    teacher_nN: Tensor,
    temperature: float,
    columns: Columns,
    row_of_p: Tensor | None,
) -> Tensor:
    """The KL of each row, [n]; the gradient to each row is written at all its members."""
    if row_of_p is None and columns.are_all(gradient_pV.shape[1]):
        return kl_and_gradient(student_nN, teacher_nN, temperature, gradient_pV)
    gradient_nM = student_nN.new_empty(len(student_nN), columns.count + 1)
    kl_n = kl_and_gradient(student_nN, teacher_nN, temperature, gradient_nM[:, :-1])
    gradient_nM[:, -1] = 0
    columns.put(gradient_nM if row_of_p is None else gradient_nM[row_of_p], gradient_pV)
    return kl_n


def kl_and_gradient(student_nN: Tensor, teacher_nN: Tensor, temperature: float, out_nN: Tensor) -> Tensor:
    """KL(softmax(t) || softmax(s)) of each row, [n], its gradient to s being written into `out_nN`:

        KL = sum p (t - s) + log Z_s - log Z_t,    gradient = softmax(s) - softmax(t)

    where s = student / tau, and t, the teacher's, has been divided already. log Z = max z - log max softmax(z), as
    softmax is the one fast pass with an exponential in it. Overwrites the teacher's. Memory is what it costs: each
    number is read and written as seldom as can be.

    Numbers far from 0, or apart, would lose digits of their difference: s is brought to the level of t as it is
    divided, and t to 0 where it is not NEAR it. On a GPU always, because asking would mean waiting.
    """
    top_n1, peak_n1 = teacher_nN.amax(-1, keepdim=True), student_nN.amax(-1, keepdim=True)
    if teacher_nN.is_cuda or top_n1.abs().max() > NEAR:
        teacher_nN.sub_(top_n1)
        top_n1 = torch.zeros_like(top_n1)
    shift_n1 = top_n1 - peak_n1 / temperature
    student_nN = torch.add(shift_n1, student_nN, alpha=1 / temperature)
    peak_n1 = torch.add(shift_n1, peak_n1, alpha=1 / temperature)
    q_nN, p_nN = student_nN.softmax(-1), teacher_nN.softmax(-1)
    torch.sub(q_nN, p_nN, out=out_nN)
    log_z_n = (peak_n1 - top_n1)[:, 0] + (p_nN.amax(-1) / q_nN.amax(-1)).log()
    kl_n: Tensor = teacher_nN.sub_(student_nN).mul_(p_nN).sum(-1) + log_z_n
    return kl_n

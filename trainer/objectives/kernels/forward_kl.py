"""Forward KL between a teacher's and a student's distributions over tens of thousands of tokens, in bounded memory.

Both sides are computed some rows at a time, so no logits exist for more than a chunk, and the gradient,
softmax(z_S / tau) - softmax(z_T / tau), goes through the student's head on the way (`logit_pass`). Plain autograd keeps
several matrices of the logits' shape, and takes twice the time. Cross-entropy can come along: its gradient is added
while the logits are at hand.

Shapes: X student positions, V student vocabulary, R rows (token positions or spans), N compared columns; n rows and p
positions of one block.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from trainer.objectives.kernels.carried import CarriedCrossEntropy
from trainer.objectives.kernels.chunks import Chunks, chunks_for, slices
from trainer.objectives.kernels.logit_pass import LogitPass, pass_over
from trainer.objectives.kernels.pooled_rows import Columns, Rows
from trainer.objectives.kernels.row_pass import pass_rows
from trainer.student.logits import Logits

NEAR = 8.0  # about as far from 0 as log-probabilities over a vocabulary are


def forward_kl(
    logits: Tensor | Logits,
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
    sizes = chunks_for(logits, chunks)

    def run(made: LogitPass) -> tuple[Tensor, ...]:
        compare = _Comparison(made, rows, columns, teacher_logits, factor_R, temperature, carried, expected, sizes)
        kl = pass_rows(made, rows, compare, carried, sizes)
        return (kl,) if carried is None else (kl, carried.total)

    kl, *entropy = pass_over(logits, run, [expected] if carried is None else [expected, carried.scale])
    if carried is not None:
        (carried.total,) = entropy
    return kl


class _Comparison:
    """KL of the rows of a chunk, a block at a time that stays in a processor's cache."""

    def __init__(
        self,
        made: LogitPass,
        rows: Rows,
        columns: Columns,
        teacher_logits: Callable[[slice], Tensor],
        factor_R: Tensor,
        temperature: float,
        carried: CarriedCrossEntropy | None,
        expected: float,
        sizes: Chunks,
    ):
        """The gradient is multiplied with `expected` at once, which saves a pass over all of it."""
        self.rows, self.columns, self.temperature, self.carried = rows, columns, temperature, carried
        self.teacher_logits, self.zero = teacher_logits, made.zero()
        self.factor_R = factor_R.to(self.zero.dtype)
        # At each member a row's gradient is multiplied with its factor and with the member's share in it.
        self.scale_P = expected / temperature * self.factor_R[rows.row_P] * rows.share_P.to(self.zero.dtype)
        self.block = sizes.block // max(columns.count, made.vocabulary // 4)

    def __call__(self, chunk: slice, members: slice, logits_pV: Tensor, gradient_pV: Tensor) -> Tensor:
        """As `Compare`; cross-entropy is added block by block."""
        teacher_cN = self.teacher_logits(chunk).to(self.zero.dtype)
        total = self.zero.clone()
        for block in slices(chunk.start, chunk.stop, self.block):
            of = self.rows.members(block)
            here = slice(of.start - members.start, of.stop - members.start)
            row_of_p = self.rows.row_of(block, of)
            pooled_nV = logits_pV[here] if row_of_p is None else self.rows.pool(logits_pV[here], block, of)
            teacher_nN = teacher_cN[block.start - chunk.start : block.stop - chunk.start]
            student_nN = self.columns.take(pooled_nV)
            kl_n = _kl_into(gradient_pV[here], student_nN, teacher_nN, self.temperature, self.columns, row_of_p)
            gradient_pV[here].mul_(self.scale_P[of, None])
            if self.carried is not None:
                self.carried.add(self.rows.positions(of), logits_pV[here], gradient_pV[here])
            total += torch.dot(self.factor_R[block], kl_n)
        return total


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

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

from trainer.objectives.kernels.carried import CarriedCrossEntropy, Peak
from trainer.objectives.kernels.chunks import Chunks, chunks_for, slices
from trainer.objectives.kernels.logit_pass import LogitPass
from trainer.objectives.kernels.pooled_rows import Columns, Rows
from trainer.objectives.kernels.row_pass import pass_carrying, pass_rows
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

    def run(made: LogitPass) -> Tensor:
        compare = _Comparison(made, rows, columns, teacher_logits, factor_R, temperature, carried, expected, sizes)
        return pass_rows(made, rows, compare, carried, sizes)

    return pass_carrying(logits, run, expected, carried)


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
            teacher_nN = teacher_cN[block.start - chunk.start : block.stop - chunk.start]
            kl_n = self._block(block, of, logits_pV[here], teacher_nN, gradient_pV[here])
            total += torch.dot(self.factor_R[block], kl_n)
        return total

    def _block(
        self, block: slice, members: slice, logits_pV: Tensor, teacher_nN: Tensor, gradient_pV: Tensor
    ) -> Tensor:
        """The KL of some rows, [n], and the gradient of all that is passed over to their members."""
        row_of_p, scale_p1 = self.rows.row_of(block, members), self.scale_P[members, None]
        pooled_nV = logits_pV if row_of_p is None else self.rows.pool(logits_pV, block, members)
        kl_n, q_nN, p_nN, peak = kl_and_softmaxes(self.columns.take(pooled_nV), teacher_nN, self.temperature)
        positions = self.rows.positions(members)
        is_whole = row_of_p is None and self.columns.are_all(logits_pV.shape[1])
        if is_whole and self.carried is not None and self.temperature in (1, 2):
            # Both gradients are of softmaxes that follow from one: scale (q - p) + scale' (q_1 - 1_label).
            torch.mul(q_nN, scale_p1, out=gradient_pV).addcmul_(p_nN, scale_p1, value=-1)
            entropy_scale_p1 = self.carried.scale_of(positions)
            if self.temperature == 2:  # q_1 is q^2 over its sum, at a third of an exponential's cost
                sum_n1 = q_nN.square_().sum(-1, keepdim=True)
                entropy_scale_p1 = entropy_scale_p1 / sum_n1
                peak = peak._replace(logp_p=2 * peak.logp_p - sum_n1[:, 0].log())
            gradient_pV.addcmul_(q_nN, entropy_scale_p1)
            self.carried.add_labels(positions, logits_pV, peak, gradient_pV)
            return kl_n
        if is_whole:
            torch.sub(q_nN, p_nN, out=gradient_pV)
        else:
            gradient_nM = q_nN.new_empty(len(q_nN), self.columns.count + 1)
            torch.sub(q_nN, p_nN, out=gradient_nM[:, :-1])
            gradient_nM[:, -1] = 0
            self.columns.put(gradient_nM if row_of_p is None else gradient_nM[row_of_p], gradient_pV)
        gradient_pV.mul_(scale_p1)
        if self.carried is not None:
            self.carried.add(positions, logits_pV, gradient_pV)
        return kl_n


def kl_and_softmaxes(student_nN: Tensor, teacher_nN: Tensor, temperature: float) -> tuple[Tensor, Tensor, Tensor, Peak]:
    """KL(softmax(t) || softmax(s)) of each row, [n]; q = softmax(s) and p = softmax(t), [n, N]; and the peaks of the
    student's logits and of q:

        KL = sum p (t - s) + log Z_s - log Z_t,    its gradient to s is q - p

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
    level_n1 = torch.add(shift_n1, peak_n1, alpha=1 / temperature)
    q_nN, p_nN = student_nN.softmax(-1), teacher_nN.softmax(-1)
    top_q_n = q_nN.amax(-1)
    gap_n = (level_n1 - top_n1)[:, 0] + (p_nN.amax(-1) / top_q_n).log()
    kl_n: Tensor = teacher_nN.sub_(student_nN).mul_(p_nN).sum(-1) + gap_n
    return kl_n, q_nN, p_nN, Peak(peak_n1[:, 0], top_q_n.log())

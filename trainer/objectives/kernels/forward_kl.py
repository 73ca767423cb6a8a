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

from schemas.models.aligned_rows import rows_without_gaps
from trainer.objectives.kernels.carried import CarriedCrossEntropy
from trainer.objectives.kernels.chunks import Chunks, chunks_for, slices
from trainer.objectives.kernels.fused import Spread, entropy_rows, is_fused, kl_rows, pooled_kl_rows
from trainer.objectives.kernels.logit_pass import LogitPass
from trainer.objectives.kernels.pooled_rows import Columns, Rows
from trainer.objectives.kernels.powers import LN2, Powers
from trainer.objectives.kernels.row_pass import pass_carrying, pass_rows
from trainer.student.logits import Logits


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
        fused = is_fused(made.hidden_Xd)
        kind = _FusedComparison if fused else _Comparison
        compare = kind(made, rows, columns, teacher_logits, factor_R, temperature, carried, expected, sizes)
        return pass_rows(made, rows, compare, carried, sizes, fused)

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
        self._columns_V: Tensor | None = None

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
        kl_n, of_student, of_teacher = kl_and_powers(self.columns.take(pooled_nV), teacher_nN, self.temperature)
        positions, carried = self.rows.positions(members), self.carried
        is_whole = row_of_p is None and self.columns.are_all(logits_pV.shape[1])
        # The gradient may be written over the logits: what cross-entropy takes from them is taken before.
        if not is_whole:
            entropy = None if carried is None else Powers.of(logits_pV)
            gradient_nM = of_student.power_nN.new_empty(len(teacher_nN), self.columns.count + 1)
            _difference(of_student, of_teacher, torch.ones_like(of_student.sum_n1), gradient_nM[:, :-1])
            gradient_nM[:, -1] = 0
            self.columns.put(gradient_nM if row_of_p is None else gradient_nM[row_of_p], gradient_pV)
            gradient_pV.mul_(scale_p1)
            if carried is not None and entropy is not None:
                carried.add(positions, entropy, gradient_pV)
        elif carried is None:
            _difference(of_student, of_teacher, scale_p1, gradient_pV)
        elif self.temperature == 1:
            # Both gradients are of one softmax: (scale + scale') q - scale p - scale' 1_label.
            _difference(of_student, of_teacher, scale_p1, gradient_pV, carried.scale_of(positions))
            carried.add_labels(positions, of_student, gradient_pV)
        else:
            entropy = None if self.temperature == 2 else Powers.of(logits_pV)
            _difference(of_student, of_teacher, scale_p1, gradient_pV)
            carried.add(positions, entropy or of_student.squared(), gradient_pV)
        return kl_n


class _FusedComparison(_Comparison):
    """The same on a GPU, all rows of a chunk at once, by kernels that pass over them twice."""

    def __call__(self, chunk: slice, members: slice, logits_pV: Tensor, gradient_pV: Tensor) -> Tensor:
        """As `Compare`."""
        positions, carried, scale_p = self.rows.positions(members), self.carried, self.scale_P[members]
        teacher_nN, row_of_p = rows_without_gaps(self.teacher_logits(chunk).float()), self.rows.row_of(chunk, members)
        self._require_shape(teacher_nN, chunk, logits_pV.shape[1])
        entropy = None if carried is None else carried.of(positions)
        if row_of_p is None and self.columns.ids is None:
            kl_n, nll_p = kl_rows(logits_pV, teacher_nN, scale_p, self.temperature, gradient_pV, entropy)
        else:
            first_n, share_p = self.rows.first_of(chunk, members), self.rows.share_P[members].float()
            kl_n = pooled_kl_rows(logits_pV, first_n, share_p, self.columns.ids, teacher_nN, self.temperature)
            row_of_p = self.rows.row_P[members] - chunk.start
            nll_p = entropy_rows(
                logits_pV, gradient_pV, entropy, Spread(teacher_nN, row_of_p, scale_p, self._column_V(logits_pV))
            )
        if carried is not None:
            carried.count(positions, nll_p)
        return torch.dot(self.factor_R[chunk], kl_n)

    def _require_shape(self, teacher_nN: Tensor, chunk: slice, vocabulary: int) -> None:
        """Raises ValueError: a kernel would read on in whatever lies behind."""
        rows, columns = chunk.stop - chunk.start, self.columns
        shape = rows, min(columns.count, vocabulary) if columns.ids is None else len(columns.ids)
        if teacher_nN.shape != shape:
            raise ValueError(f"the teacher's logits are {[*teacher_nN.shape]}, where [rows, columns] are {[*shape]}")

    def _column_V(self, logits_pV: Tensor) -> Tensor:
        """Made once: every chunk has the same."""
        if self._columns_V is None:
            self._columns_V = self.columns.column_of(logits_pV.shape[1], -1, logits_pV.device).int()
        return self._columns_V


def _difference(
    of_student: Powers, of_teacher: Powers, scale_n1: Tensor, out_nN: Tensor, more_n1: Tensor | None = None
) -> None:
    """scale * (q - p), or (scale + more) * q - scale * p, of both softmaxes, in two passes."""
    of_q_n1 = scale_n1 if more_n1 is None else scale_n1 + more_n1
    torch.mul(of_student.power_nN, of_q_n1 / of_student.sum_n1, out=out_nN)
    out_nN.addcmul_(of_teacher.power_nN, scale_n1 / of_teacher.sum_n1, value=-1)


def kl_and_powers(student_nN: Tensor, teacher_nN: Tensor, temperature: float) -> tuple[Tensor, Powers, Powers]:
    """KL(softmax(t) || softmax(s)) of each row, [n], and q = softmax(s) and p = softmax(t) as powers of two:

        KL = sum p (t - s) + log Z_s - log Z_t,    its gradient to s is q - p

    where s = student / tau, and t, the teacher's, has been divided already. Overwrites the teacher's. Memory is what
    it costs: each number is read and written as seldom as can be. Numbers far from 0, or apart, would lose digits of
    their difference, so the largest of either side is 0 in the bits.
    """
    of_student, of_teacher = Powers.of(student_nN, temperature), Powers.of(teacher_nN, out=teacher_nN)
    gap_n = (of_student.sum_n1 / of_teacher.sum_n1).log2()[:, 0]
    sum_n = teacher_nN.sub_(of_student.bits_nN).mul_(of_teacher.power_nN).sum(-1)
    return LN2 * (sum_n / of_teacher.sum_n1[:, 0] + gap_n), of_student, of_teacher

"""Forward KL between a teacher's and a student's distributions over tens of thousands of tokens, in bounded memory.

Both sides are computed a few rows at a time, so teacher logits never exist for more than a chunk, and the gradient,
softmax(z_S / tau) - softmax(z_T / tau), is written down on the way. It is one matrix of the logits' shape and dtype,
which the backward pass scales and hands over. Plain autograd keeps several more, and takes twice the time.

Shapes: X student positions, V student vocabulary, R rows (token positions or spans), N compared columns, P row members;
n rows and p members of one block.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from trainer.geometry import at_least_float32

# Numbers in one [rows, N] block. On a CPU a block of this size stays in the cache from one operation to the next; on a
# GPU it is large enough to keep the machine busy, at 128 MB a block.
CHUNK_CPU = 1 << 23
CHUNK_GPU = 1 << 25
BLOCK_CPU = 1 << 18
BLOCK_GPU = 1 << 22


@dataclass(frozen=True)
class Rows:
    """Weighted sums of positions: row r sums share_P[p] * logits[position_P[p]] over the p with row_P[p] = r."""

    position_P: Tensor  # long, without repeats
    row_P: Tensor  # long, ascending, every row at least once
    share_P: Tensor  # 1 in sum over a row
    num_rows: int

    @property
    def single(self) -> bool:
        """Every row has one member, whose share is 1."""
        return len(self.row_P) == self.num_rows

    @cached_property
    def _first_member(self) -> list[int]:
        """Where each row's members begin, and, at the end, where the last row's end."""
        rows = torch.arange(self.num_rows + 1, device=self.row_P.device)
        return (rows if self.single else torch.searchsorted(self.row_P, rows)).tolist()

    @cached_property
    def _run(self) -> list[int]:
        """Which run of successive positions each member is in."""
        return (self.position_P.diff(prepend=self.position_P[:1]) != 1).cumsum(0).tolist()

    def members(self, rows: slice) -> slice:
        """The members of successive rows."""
        return slice(self._first_member[rows.start], self._first_member[rows.stop])

    def positions(self, members: slice) -> slice | Tensor:
        """Where their logits are: a slice, whose rows are a view, if one position follows another."""
        run = self._run[members]
        if not run or run[0] != run[-1]:
            return self.position_P[members]
        first = int(self.position_P[members.start])
        return slice(first, first + len(run))

    def row_of(self, rows: slice, members: slice) -> Tensor | None:
        """[p], which of these rows each member is in; None where each row is its one member."""
        if members.stop - members.start == rows.stop - rows.start:
            return None
        row_p: Tensor = self.row_P[members] - rows.start
        return row_p

    def pool(self, member_pV: Tensor, rows: slice, members: slice) -> Tensor:
        """[p, V] -> [n, V]: the weighted sums. An embedding bag adds in the order of the members, on every run."""
        first_n = torch.tensor(self._first_member[rows], device=self.row_P.device) - members.start
        order_p = torch.arange(len(member_pV), device=self.row_P.device)
        return torch.nn.functional.embedding_bag(
            order_p, member_pV, first_n, mode="sum", per_sample_weights=self.share_P[members].to(member_pV.dtype)
        )


@dataclass(frozen=True)
class Columns:
    """Which tokens are compared: those of `ids`, or, if there are none, the first `count` of the vocabulary."""

    count: int
    ids: Tensor | None = None

    def are_all(self, width: int) -> bool:
        """They are the whole vocabulary, in its order."""
        return self.ids is None and self.count == width

    def take(self, logits_pV: Tensor) -> Tensor:
        """[p, V] -> [p, N]."""
        return logits_pV[:, : self.count] if self.ids is None else logits_pV.index_select(1, self.ids)

    def put(self, taken_pM: Tensor, whole_pV: Tensor) -> None:
        """Writes [p, N], behind which is one column of zeros, into [p, V], with 0 in the columns that are not taken."""
        if self.ids is None:
            whole_pV[:, : self.count] = taken_pM[:, : self.count]
            whole_pV[:, self.count :] = 0
            return
        # Every column of the result looks its own up, the last being 0: ten times as fast as copying column by column.
        torch.index_select(taken_pM, 1, self._column_V(whole_pV), out=whole_pV)

    def _column_V(self, whole_pV: Tensor) -> Tensor:
        assert self.ids is not None
        column_V = torch.full((whole_pV.shape[1],), self.count, device=self.ids.device)
        column_V[self.ids] = torch.arange(self.count, device=self.ids.device)
        return column_V


def forward_kl(
    logits: Tensor,
    rows: Rows,
    columns: Columns,
    teacher_logits: Callable[[slice], Tensor],
    factor_R: Tensor,
    temperature: float,
) -> Tensor:
    """sum_r factor_r KL(softmax(z^T_r / tau) || softmax(z^S_r / tau)), a scalar with a gradient to `logits` alone.

    `logits` are [..., V], of X positions in all; z^S is they, pooled into `rows` and restricted to `columns`.
    `teacher_logits` computes z^T / tau of a slice of rows, [n, N], which is then overwritten. The gradient can be asked
    for once.
    """
    total: Tensor = _ForwardKL.apply(logits, rows, columns, teacher_logits, factor_R, temperature)
    return total


class _ForwardKL(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        rows: Rows,
        columns: Columns,
        teacher_logits: Callable[[slice], Tensor],
        factor_R: Tensor,
        temperature: float,
    ) -> Tensor:
        logits_XV = logits.flatten(0, -2)
        ctx.gradient = gradient_XV = None
        if ctx.needs_input_grad[0]:
            # Of the logits' own shape: to a view of something else, autograd cannot add another loss's in place.
            ctx.gradient = torch.empty_like(logits, memory_format=torch.contiguous_format)
            gradient_XV = ctx.gradient.flatten(0, -2)
        total = at_least_float32(logits_XV.new_zeros(()))
        factor_R = factor_R.to(total.dtype)
        ctx.scale_X = _scale(rows, factor_R / temperature, len(logits_XV))
        chunk_size, block_size = (CHUNK_GPU, BLOCK_GPU) if logits_XV.is_cuda else (CHUNK_CPU, BLOCK_CPU)
        for chunk in _slices(0, rows.num_rows, chunk_size // columns.count):
            teacher_cN = teacher_logits(chunk).to(total.dtype)
            for block in _slices(chunk.start, chunk.stop, block_size // columns.count):
                members = rows.members(block)
                positions, row_of_p = rows.positions(members), rows.row_of(block, members)
                student_nV = at_least_float32(logits_XV[positions])
                if row_of_p is not None:
                    student_nV = rows.pool(student_nV, block, members)
                student_nN = columns.take(student_nV) / temperature
                teacher_nN = teacher_cN[block.start - chunk.start : block.stop - chunk.start]
                if gradient_XV is None:
                    kl_n = kl_and_gradient(student_nN, teacher_nN, None)
                elif row_of_p is None and isinstance(positions, slice) and columns.are_all(logits_XV.shape[1]):
                    # These rows of the gradient are rows of the whole one: it is written down right there.
                    kl_n = kl_and_gradient(student_nN, teacher_nN, gradient_XV[positions])
                else:
                    gradient_nM = student_nN.new_empty(len(student_nN), columns.count + 1)
                    kl_n = kl_and_gradient(student_nN, teacher_nN, gradient_nM[:, :-1])
                    gradient_nM[:, -1] = 0
                    gradient_pM = (gradient_nM if row_of_p is None else gradient_nM[row_of_p]).to(gradient_XV.dtype)
                    if isinstance(positions, slice):
                        columns.put(gradient_pM, gradient_XV[positions])
                    else:
                        gradient_pV = gradient_pM.new_empty(len(gradient_pM), logits_XV.shape[1])
                        columns.put(gradient_pM, gradient_pV)
                        gradient_XV[positions] = gradient_pV
                total += torch.dot(factor_R[block], kl_n)
        if gradient_XV is not None:
            _zero_outside(rows.position_P, gradient_XV)
        return total

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        gradient, ctx.gradient = ctx.gradient, None
        if gradient is None:
            raise RuntimeError("the gradient of forward_kl was handed over already; compute the loss again")
        gradient.flatten(0, -2).mul_((upstream * ctx.scale_X)[:, None])
        return gradient, None, None, None, None, None


def _scale(rows: Rows, factor_R: Tensor, positions: int) -> Tensor:
    """[X]: what a row's gradient is multiplied with at each position: its factor, and the position's share in it."""
    scale_X = factor_R.new_zeros(positions)
    scale_X[rows.position_P] = factor_R[rows.row_P] * rows.share_P.to(factor_R.dtype)
    return scale_X


def _slices(start: int, stop: int, size: int) -> Iterator[slice]:
    """start..stop in successive slices of `size`, or of 1 if that is 0."""
    size = max(1, size)
    for first in range(start, stop, size):
        yield slice(first, min(first + size, stop))


def kl_and_gradient(student_nN: Tensor, teacher_nN: Tensor, out_nN: Tensor | None) -> Tensor:
    """KL(softmax(t) || softmax(s)) of each row, [n], its gradient to s being written into `out_nN`, if that is given:

        KL = sum p (t - s) - log Z_t + log Z_s,    gradient = softmax(s) - softmax(t)

    where log Z = max z - log max softmax(z), for softmax is the one fast pass with an exponential in it. Overwrites the
    teacher's logits. Memory is what it costs: each number is read and written as seldom as can be.
    """
    q_nN, p_nN = student_nN.softmax(-1), teacher_nN.softmax(-1)
    if out_nN is not None:
        torch.sub(q_nN, p_nN, out=out_nN)
    # Large and near equal, the maxima are subtracted first.
    log_z_n = (student_nN.amax(-1) - teacher_nN.amax(-1)) - (q_nN.amax(-1) / p_nN.amax(-1)).log()
    cross_n: Tensor = teacher_nN.sub_(student_nN).mul_(p_nN).sum(-1)
    return cross_n + log_z_n


def _zero_outside(position_P: Tensor, gradient_XV: Tensor) -> None:
    """Zeros in the rows that no position names: only those need the pass."""
    named_X = torch.zeros(len(gradient_XV), dtype=torch.bool, device=gradient_XV.device)
    named_X[position_P] = True
    gradient_XV[(~named_X).nonzero().squeeze(1)] = 0  # by index: a mask would visit every number

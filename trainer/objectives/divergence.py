"""Forward KL between a teacher's and a student's distributions over tens of thousands of tokens, in bounded memory.

Both sides are computed a few rows at a time, so teacher logits never exist for more than a chunk, and the gradient,
softmax(z_S / tau) - softmax(z_T / tau), is written down on the way. It is one matrix of the logits' shape and dtype,
which the backward pass hands over instead of making one. Plain autograd keeps several more, and takes twice the time.

Shapes: X student positions, V student vocabulary, R rows (token positions or spans), N compared columns, P row members;
n rows and p members of one chunk.
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
CHUNK_CPU = 1 << 22
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

    def pooling(self, rows: slice, members: slice) -> Tensor | None:
        """[n, p], by which members make rows; None where each of these rows is its one member.

        Products with it, not scattered additions, give the same bits always.
        """
        if members.stop - members.start == rows.stop - rows.start:
            return None
        share_p = self.share_P[members]
        pooling_np = share_p.new_zeros(rows.stop - rows.start, len(share_p))
        pooling_np[self.row_P[members] - rows.start, torch.arange(len(share_p), device=share_p.device)] = share_p
        return pooling_np


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

    def put(self, gradient_pN: Tensor, width: int) -> Tensor:
        """[p, N] -> [p, V], 0 in the columns that were not compared."""
        if self.ids is None:
            return torch.nn.functional.pad(gradient_pN, (0, width - self.count)) if width > self.count else gradient_pN
        # Every column of the result looks its own up, the last being 0: ten times as fast as copying column by column.
        column_V = torch.full((width,), self.count, device=self.ids.device)
        column_V[self.ids] = torch.arange(self.count, device=self.ids.device)
        return torch.nn.functional.pad(gradient_pN, (0, 1)).index_select(1, column_V)


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
    `teacher_logits` computes z^T of a slice of rows, [n, N], which is then overwritten. The gradient can be asked for
    once.
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
            _zero_outside(rows.position_P, gradient_XV)
        total = at_least_float32(logits_XV.new_zeros(()))
        factor_R = factor_R.to(total.dtype)
        chunk_size, block_size = (CHUNK_GPU, BLOCK_GPU) if logits_XV.is_cuda else (CHUNK_CPU, BLOCK_CPU)
        for chunk in _slices(0, rows.num_rows, chunk_size // columns.count):
            teacher_cN = teacher_logits(chunk).to(total.dtype)
            for block in _slices(chunk.start, chunk.stop, block_size // columns.count):
                members = rows.members(block)
                positions = rows.positions(members)
                student_nN = at_least_float32(columns.take(logits_XV[positions]))
                pooling_np = rows.pooling(block, members)
                if pooling_np is not None:
                    pooling_np = pooling_np.to(total.dtype)
                    student_nN = pooling_np @ student_nN
                teacher_nN = teacher_cN[block.start - chunk.start : block.stop - chunk.start]
                # Where the gradient of these rows is rows of the whole one, it is written down right there.
                direct = pooling_np is None and isinstance(positions, slice) and columns.are_all(logits_XV.shape[1])
                out_nN = None
                if gradient_XV is not None and direct and gradient_XV.dtype == total.dtype:
                    out_nN = gradient_XV[positions]
                kl_n, gradient_nN = kl_and_gradient(student_nN, teacher_nN, temperature, factor_R[block], out_nN)
                total += torch.dot(factor_R[block], kl_n)
                if gradient_XV is not None and out_nN is None:
                    gradient_pN = gradient_nN if pooling_np is None else pooling_np.mT @ gradient_nN
                    gradient_XV[positions] = columns.put(gradient_pN, logits_XV.shape[1]).to(gradient_XV.dtype)
        return total

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        gradient, ctx.gradient = ctx.gradient, None
        if gradient is None:
            raise RuntimeError("the gradient of forward_kl was handed over already; compute the loss again")
        return gradient.mul_(upstream), None, None, None, None, None


def _slices(start: int, stop: int, size: int) -> Iterator[slice]:
    """start..stop in successive slices of `size`, or of 1 if that is 0."""
    size = max(1, size)
    for first in range(start, stop, size):
        yield slice(first, min(first + size, stop))


def kl_and_gradient(
    student_nN: Tensor, teacher_nN: Tensor, temperature: float, factor_n: Tensor, out_nN: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """KL(softmax(t / tau) || softmax(s / tau)) of each row, [n], and factor_n times its gradient to s, [n, N]:

        KL = sum p (t - s) / tau - log Z_t + log Z_s,    gradient = (softmax(s / tau) - softmax(t / tau)) / tau

    Overwrites the teacher's logits, and puts the gradient into `out_nN` if it is given. Memory is what it costs: each
    number is read and written as seldom as can be.
    """
    student_nN = _below_maximum(student_nN, temperature)
    teacher_nN = _below_maximum(teacher_nN, temperature, out=teacher_nN)
    q_nN, p_nN = torch.exp(student_nN, out=out_nN), teacher_nN.exp()
    q_sum_n, p_sum_n = q_nN.sum(-1), p_nN.sum(-1)
    kl_n = torch.linalg.vecdot(p_nN, teacher_nN.sub_(student_nN)) / p_sum_n + (q_sum_n / p_sum_n).log()
    scale_n = factor_n / temperature
    return kl_n, q_nN.mul_((scale_n / q_sum_n)[:, None]).addcmul_(p_nN, (scale_n / p_sum_n)[:, None], value=-1)


def _below_maximum(logits_nN: Tensor, temperature: float, out: Tensor | None = None) -> Tensor:
    """(z - max z) / tau in one pass."""
    most_n1 = logits_nN.amax(-1, keepdim=True)
    return torch.add(most_n1.div_(-temperature), logits_nN, alpha=1 / temperature, out=out)


def _zero_outside(position_P: Tensor, gradient_XV: Tensor) -> None:
    """Zeros in the rows that no position names: only those need the pass."""
    named_X = torch.zeros(len(gradient_XV), dtype=torch.bool, device=gradient_XV.device)
    named_X[position_P] = True
    gradient_XV[(~named_X).nonzero().squeeze(1)] = 0  # by index: a mask would visit every number

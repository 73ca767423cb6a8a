"""Forward KL between a teacher's and a student's distributions over tens of thousands of tokens, in bounded memory.

Both sides are computed a few rows at a time, so teacher logits never exist for more than a chunk, and the gradient,
softmax(z_S / tau) - softmax(z_T / tau), is written down on the way. It is one matrix of the logits' shape and dtype,
which the backward pass hands over instead of making one. Plain autograd keeps several more, and takes twice the time.

Shapes: X student positions, V student vocabulary, R rows (token positions or spans), N compared columns, P row members;
n rows and p members of one chunk.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trainer.geometry import at_least_float32

# Numbers in one [rows, N] block. On a CPU a block of this size stays in the cache from one operation to the next; on a
# GPU it is large enough to keep the machine busy, at 128 MB a block.
CHUNK_CPU = 1 << 20
CHUNK_GPU = 1 << 25


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

    def chunks(self, size: int) -> Iterator[tuple[slice, slice]]:
        """(rows, members) of successive chunks of at most `size` rows."""
        starts = [*range(0, self.num_rows, size), self.num_rows]
        bounds = starts
        if not self.single:
            bounds = torch.searchsorted(self.row_P, torch.tensor(starts, device=self.row_P.device)).tolist()
        for i in range(len(starts) - 1):
            yield slice(starts[i], starts[i + 1]), slice(bounds[i], bounds[i + 1])

    def pool(self, member_pN: Tensor, chunk: slice, members: slice) -> Tensor:
        """The rows of a chunk from its members, [n, N]."""
        if self.single:
            return member_pN
        weighted_pN = member_pN * self.share_P[members, None].to(member_pN.dtype)
        pooled_nN = member_pN.new_zeros(chunk.stop - chunk.start, member_pN.shape[1])
        return pooled_nN.index_add_(0, self.row_P[members] - chunk.start, weighted_pN)

    def spread(self, gradient_nN: Tensor, chunk: slice, members: slice) -> Tensor:
        """The gradient of the members from that of the rows, [p, N]."""
        if self.single:
            return gradient_nN
        return gradient_nN[self.row_P[members] - chunk.start].mul_(self.share_P[members, None].to(gradient_nN.dtype))


@dataclass(frozen=True)
class Columns:
    """Which tokens are compared: those of `ids`, or, if there are none, the first `count` of the vocabulary."""

    count: int
    ids: Tensor | None = None

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
    logits_XV: Tensor,
    rows: Rows,
    columns: Columns,
    teacher_logits: Callable[[slice], Tensor],
    factor_R: Tensor,
    temperature: float,
) -> Tensor:
    """sum_r factor_r KL(softmax(z^T_r / tau) || softmax(z^S_r / tau)), a scalar with a gradient to `logits_XV` alone.

    z^S is `logits_XV` pooled into `rows` and restricted to `columns`. `teacher_logits` computes z^T of a slice of rows,
    [n, N], which is then overwritten. The gradient can be asked for once.
    """
    total: Tensor = _ForwardKL.apply(logits_XV, rows, columns, teacher_logits, factor_R, temperature)
    return total


class _ForwardKL(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        logits_XV: Tensor,
        rows: Rows,
        columns: Columns,
        teacher_logits: Callable[[slice], Tensor],
        factor_R: Tensor,
        temperature: float,
    ) -> Tensor:
        gradient_XV = _zero_outside(rows.position_P, logits_XV) if ctx.needs_input_grad[0] else None
        total = at_least_float32(logits_XV.new_zeros(()))
        budget = CHUNK_GPU if logits_XV.is_cuda else CHUNK_CPU
        for chunk, members in rows.chunks(max(1, budget // columns.count)):
            position_p = rows.position_P[members]
            member_pN = at_least_float32(columns.take(logits_XV[position_p]))
            student_nN = rows.pool(member_pN, chunk, members)
            teacher_nN = teacher_logits(chunk).to(student_nN.dtype)
            factor_n = factor_R[chunk].to(student_nN.dtype)
            kl_n, gradient_nN = kl_and_gradient(student_nN, teacher_nN, temperature, factor_n)
            total += torch.dot(factor_n, kl_n)
            if gradient_XV is not None:
                gradient_pN = rows.spread(gradient_nN, chunk, members)
                gradient_XV.index_copy_(
                    0, position_p, columns.put(gradient_pN, logits_XV.shape[1]).to(gradient_XV.dtype)
                )
        ctx.gradient_XV = gradient_XV
        return total

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        gradient_XV, ctx.gradient_XV = ctx.gradient_XV, None
        if gradient_XV is None:
            raise RuntimeError("the gradient of forward_kl was handed over already; compute the loss again")
        return gradient_XV.mul_(upstream), None, None, None, None, None


def kl_and_gradient(
    student_nN: Tensor, teacher_nN: Tensor, temperature: float, factor_n: Tensor
) -> tuple[Tensor, Tensor]:
    """KL(softmax(t / tau) || softmax(s / tau)) of each row, [n], and factor_n times its gradient to s, [n, N]:

        KL = sum p (t - s) / tau - log Z_t + log Z_s,    gradient = (softmax(s / tau) - softmax(t / tau)) / tau

    Overwrites both arguments. Memory is what it costs: each number is read and written as seldom as can be.
    """
    student_nN, teacher_nN = _below_maximum(student_nN, temperature), _below_maximum(teacher_nN, temperature)
    q_nN, p_nN = student_nN.exp(), teacher_nN.exp()
    q_sum_n, p_sum_n = q_nN.sum(-1), p_nN.sum(-1)
    kl_n = torch.linalg.vecdot(p_nN, teacher_nN.sub_(student_nN)) / p_sum_n + (q_sum_n / p_sum_n).log()
    scale_n = factor_n / temperature
    return kl_n, q_nN.mul_((scale_n / q_sum_n)[:, None]).addcmul_(p_nN, (scale_n / p_sum_n)[:, None], value=-1)


def _below_maximum(logits_nN: Tensor, temperature: float) -> Tensor:
    """(z - max z) / tau, in place and in one pass."""
    most_n1 = logits_nN.amax(-1, keepdim=True)
    return torch.add(most_n1.div_(-temperature), logits_nN, alpha=1 / temperature, out=logits_nN)


def _zero_outside(position_P: Tensor, logits_XV: Tensor) -> Tensor:
    """An unfilled matrix like `logits_XV`, with zeros in the rows that no position names: only those need the pass."""
    named_X = torch.zeros(len(logits_XV), dtype=torch.bool, device=logits_XV.device)
    named_X[position_P] = True
    gradient_XV = torch.empty_like(logits_XV, memory_format=torch.contiguous_format)
    gradient_XV[(~named_X).nonzero().squeeze(1)] = 0  # by index: a mask would visit every number
    return gradient_XV

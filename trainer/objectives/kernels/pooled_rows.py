"""Which logits a divergence compares: rows that are weighted sums of positions, and columns of the vocabulary.

Positions that follow one another are slices, so that reading and writing them copies nothing.

Shapes: R rows, P row members, V student vocabulary, N compared columns; n rows and p members of one block.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Rows:
    """Weighted sums of positions: row r sums share_P[p] * logits[position_P[p]] over the p with row_P[p] = r."""

    position_P: Tensor  # long, without repeats
    row_P: Tensor  # long, ascending, every row at least once
    share_P: Tensor
    num_rows: int
    whole: bool = True  # shares are 1 in sum over every row

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
    def _position(self) -> list[int]:
        """On the host: a GPU is waited for once, not at every chunk."""
        return self.position_P.tolist()

    @cached_property
    def _run(self) -> list[int]:
        """Which run of successive positions each member is in."""
        position_P = np.array(self._position, dtype=np.int64)
        run: list[int] = (np.diff(position_P, prepend=position_P[:1]) != 1).cumsum().tolist()
        return run

    def chunks(self, most: int) -> Iterator[slice]:
        """Successive rows of up to `most` members together, or one row at a time that has more."""
        first, start = self._first_member, 0
        while start < self.num_rows:
            stop = max(start + 1, bisect_right(first, first[start] + most) - 1)
            yield slice(start, stop)
            start = stop

    def members(self, rows: slice) -> slice:
        """The members of successive rows."""
        return slice(self._first_member[rows.start], self._first_member[rows.stop])

    def positions(self, members: slice) -> slice | Tensor:
        """Where their logits are: a slice, whose rows are a view, if one position follows another."""
        run = self._run[members]
        if not run or run[0] != run[-1]:
            return self.position_P[members]
        first = self._position[members.start]
        return slice(first, first + len(run))

    def outside(self, positions: int) -> Tensor:
        """Which of 0..`positions` - 1 are not a member of any row, ascending."""
        named_X = torch.zeros(positions, dtype=torch.bool, device=self.position_P.device)
        named_X[self.position_P] = True
        return (~named_X).nonzero().squeeze(1)

    def row_of(self, rows: slice, members: slice) -> Tensor | None:
        """[p], which of these rows each member is in; None where each row is its one member, whole."""
        if self.whole and members.stop - members.start == rows.stop - rows.start:
            return None
        row_p: Tensor = self.row_P[members] - rows.start
        return row_p

    def first_of(self, rows: slice, members: slice) -> Tensor:
        """[n + 1], where the members of each of these rows begin among `members`, and where the last row's end."""
        first = self._first_member[rows.start : rows.stop + 1]
        first_n: Tensor = torch.tensor(first, device=self.row_P.device) - members.start
        return first_n

    def pool(self, member_pV: Tensor, rows: slice, members: slice) -> Tensor:
        """[p, V] -> [n, V]: the weighted sums. An embedding bag adds in the order of the members, on every run."""
        first_n = self.first_of(rows, members)[:-1]
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
        column_V = self.column_of(whole_pV.shape[1], self.count, whole_pV.device)
        torch.index_select(taken_pM, 1, column_V, out=whole_pV)

    def column_of(self, width: int, other: int, device: torch.device) -> Tensor:
        """[V], which of the compared columns each token of a vocabulary of `width` is, or `other`."""
        column_V = torch.full((width,), other, device=device)
        column_V[slice(self.count) if self.ids is None else self.ids] = torch.arange(self.count, device=device)
        return column_V

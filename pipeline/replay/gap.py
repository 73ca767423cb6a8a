"""How far rows lie from those of a fresh run, and how far rounding may have moved them.

Rounding differs between a batch of one and a batch of many. Where a number is then rounded to a coarser one, it may tip
from one to the next: a noise of T moves it by a whole step, once in step / T times, and so by the root of T * step. So
it is with the codes of a row. Rows are judged together, by the root of their mean square, and of few rows two may tip
as far as they can.

Shapes: N rows of one array, one for all masses of a text.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

TIPPED = 2


@dataclass(frozen=True)
class Gap:
    """Of some rows of one array, all as shares of the size of a row."""

    noise: float  # what rounding moves a row by before it is stored
    row_N: np.ndarray  # float64: the distance of each
    step_N: np.ndarray  # float64: what a code, or a number of another dtype, is apart from its neighbour
    jump_N: np.ndarray  # float64: the most that a row can tip by

    @classmethod
    def of(
        cls, noise: float, row_N: np.ndarray, step: float | np.ndarray = 0.0, jump: float | np.ndarray = 0.0
    ) -> "Gap":
        """`step` and `jump` are of all rows or of each. What is not a number is infinitely far."""
        step_N, jump_N = (np.broadcast_to(np.asarray(of_rows, np.float64), row_N.shape) for of_rows in (step, jump))
        return cls(noise, np.where(np.isnan(row_N), np.inf, row_N), step_N, jump_N)

    @classmethod
    def total(cls, gaps: Sequence["Gap"]) -> "Gap":
        """Of the rows of several, at least one, of one array."""
        parts = zip(*((gap.row_N, gap.step_N, gap.jump_N) for gap in gaps), strict=True)
        return cls(max(gap.noise for gap in gaps), *map(np.concatenate, parts))

    def without(self, share: float) -> "Gap":
        """Without that share of the rows, those that are furthest off."""
        kept = np.argsort(self.row_N)[: len(self.row_N) - int(share * len(self.row_N))]
        return Gap(self.noise, self.row_N[kept], self.step_N[kept], self.jump_N[kept])

    @property
    def largest(self) -> float:
        """The largest distance."""
        return float(self.row_N.max(initial=0.0))

    @property
    def found(self) -> float:
        """The root of the mean square, without the TIPPED rows that may have tipped furthest."""
        left_N = self.row_N.copy()
        may_tip = np.flatnonzero(left_N <= self.jump_N)
        left_N[may_tip[np.argsort(-left_N[may_tip])[:TIPPED]]] = 0.0
        return float(np.sqrt(np.square(left_N).mean())) if len(left_N) else 0.0

    @property
    def allowed(self) -> float:
        """What of that rounding explains."""
        return float(np.sqrt(self.noise**2 + self.noise * self.step_N.mean())) if len(self.step_N) else self.noise

    @property
    def is_wide(self) -> bool:
        """Whether the rows lie further apart than that."""
        return not self.found <= self.allowed

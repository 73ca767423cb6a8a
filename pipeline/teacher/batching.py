"""Batches of samples of similar length, so that little of a forward pass is padding.

Sorting a unit by length took 0.37 of the time of batches in the corpus's order (padding 2.51x -> 1.08x of the tokens).
Batches that are filled to the brim still pad by 6 % where texts have 20 to 400 tokens, and by 23 % in batches
of 16,384; those that end where one batch more costs less than padding on pad by 2 %.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import numpy as np

from schemas.configs.extraction import ExtractionConfig

CPU_COST = 64


@dataclass(frozen=True)
class BatchRule:
    """How a unit is cut into batches. Caches name it: batches decide how states are rounded."""

    tokens: int  # of a batch at most, padding counted
    cost: int | None = None  # of a batch beside its tokens, in tokens; None: all are filled

    @classmethod
    def of(cls, config: ExtractionConfig) -> Self:
        """As `batching` has it, on the device of this extraction."""
        asked = config.batching.batch_cost
        if asked is None:
            asked = CPU_COST if config.device == "cpu" else "fill"
        return cls(config.batching.batch_tokens, None if asked == "fill" else asked)


def batches(lengths: Sequence[int], rule: BatchRule) -> list[list[int]]:
    """Indices of `lengths` in batches, longest first, equal lengths in their order; empty samples are left out.

    A batch padded to its longest sample has at most `rule.tokens`, unless one sample alone has more. Longest first, so
    that a batch that memory cannot hold fails at once. A pure function: units decide the bytes.
    """
    order = sorted((i for i, length in enumerate(lengths) if length > 0), key=lambda i: -lengths[i])
    longest = np.array([lengths[i] for i in order], np.int64)
    starts = _filled(longest, rule.tokens) if rule.cost is None else _cheapest(longest, rule.tokens, rule.cost)
    return [order[start:end] for start, end in pairwise([*starts, len(order)])]


def _filled(longest: np.ndarray, most: int) -> list[int]:
    """Where batches start, of samples by falling length, each batch as large as it may be."""
    starts = list[int]()
    for place in range(len(longest)):
        if not starts or longest[starts[-1]] * (place - starts[-1] + 1) > most:
            starts.append(place)
    return starts


def _cheapest(longest: np.ndarray, most: int, cost: int) -> list[int]:
    """Where batches start so that all positions and the batches' costs are the fewest: of several ways, the one with
    the largest last batch. Takes up to 0.1 s per unit of 65,536 tokens."""
    count = len(longest)
    totals, last = np.zeros(count + 1, np.int64), np.zeros(count + 1, np.int64)  # of the first samples
    first, places = 0, np.arange(count)
    for end in range(1, count + 1):
        while first < end - 1 and longest[first] * (end - first) > most:
            first += 1  # the largest batch that ends here starts there
        found = totals[first:end] + longest[first:end] * (end - places[first:end])
        totals[end], last[end] = found.min() + cost, first + found.argmin()
    starts, end = list[int](), count
    while end:
        end = int(last[end])
        starts.append(end)
    return starts[::-1]

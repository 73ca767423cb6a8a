"""Time warping against recursion over every path, and against the walk back as it is usually written."""

from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from trainer.objectives.parts.time_warping import only_partners, warp

costs = st.tuples(st.integers(1, 7), st.integers(1, 7)).flatmap(
    lambda shape: arrays(np.uint16, shape, elements=st.integers(0, 3))
)


def cheapest(cost: np.ndarray) -> Any:
    """The least total of any path, by recursion from the end."""

    @cache
    def total(i: int, j: int) -> Any:
        before = [total(a, b) for a, b in ((i - 1, j - 1), (i - 1, j), (i, j - 1)) if a >= 0 and b >= 0]
        return int(cost[i, j]) + min(before, default=0)

    return total(cost.shape[0] - 1, cost.shape[1] - 1)


@given(costs)
@settings(deadline=None, max_examples=200)
def test_the_path_is_whole_and_the_cheapest(cost: np.ndarray) -> None:
    path = warp(cost)
    assert path[0] == (0, 0)
    assert path[-1] == (cost.shape[0] - 1, cost.shape[1] - 1)
    assert {(c - a, d - b) for (a, b), (c, d) in pairwise(path)} <= {(0, 1), (1, 0), (1, 1)}
    assert sum(int(cost[place]) for place in path) == cheapest(cost)


@given(costs)
@settings(deadline=None)
def test_only_partners_are_those_met_once(cost: np.ndarray) -> None:
    path = warp(cost)
    partners = only_partners(path, cost.shape[1])
    for second, partner in enumerate(partners.tolist()):
        met = [a for a, b in path if b == second]
        assert partner == (met[0] if len(met) == 1 else -1)


def test_equal_sequences_go_hand_in_hand() -> None:
    """Also where tokens repeat, and any walk among them would cost nothing."""
    letters = np.array([0, 0, 0, 1, 1, 0, 2, 2])
    path = warp((letters[:, None] != letters).astype(np.uint16))
    assert path == [(i, i) for i in range(len(letters))]
    assert only_partners(path, len(letters)).tolist() == list(range(len(letters)))


def test_a_split_token_has_one_partner_and_the_whole_one_has_two() -> None:
    """un|happy and unhappy: each half of the second sequence waits for the one token of the first, and back."""
    assert only_partners(warp(np.array([[5, 2]])), 2).tolist() == [0, 0]
    assert only_partners(warp(np.array([[5], [2]])), 1).tolist() == [-1]

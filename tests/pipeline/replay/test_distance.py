"""Distances of states and of top-k rows, against sums over a whole vocabulary."""

import numpy as np
import pytest

from pipeline.replay.distance import between_likeliest, between_states


def test_states_are_measured_by_their_size() -> None:
    found = between_states(np.array([[3.0, 4.0], [0.0, 0.0], [1.0, 0.0]]), np.array([[3.0, 0.0], [0.0, 0.0], [1, 0]]))
    assert found.tolist() == [pytest.approx(4 / 3), 0.0, 0.0]


def cut(p_V: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k likeliest and the tail of one row."""
    ids = np.argsort(-p_V)[:k]
    return ids[None], np.log(np.append(p_V[ids], 1 - p_V[ids].sum()))[None]


def test_rows_of_the_same_tokens_have_their_total_variation() -> None:
    p, q = np.array([0.5, 0.3, 0.1, 0.06, 0.04]), np.array([0.4, 0.35, 0.12, 0.07, 0.06])
    of_events = 0.5 * np.abs(np.append(p[:2], p[2:].sum()) - np.append(q[:2], q[2:].sum())).sum()
    assert between_likeliest(cut(p, 2), cut(q, 2))[0] == pytest.approx(of_events)


def test_two_tokens_that_are_alike_may_take_each_others_place() -> None:
    p, q = np.array([0.6, 0.1001, 0.1, 0.1999]), np.array([0.6, 0.1, 0.1001, 0.1999])
    assert between_likeliest(cut(p, 3), cut(q, 3))[0] < 2e-4


def test_rows_that_share_no_token_are_far_apart() -> None:
    p, q = np.array([0.7, 0.2, 0.06, 0.04]), np.array([0.04, 0.06, 0.2, 0.7])
    assert between_likeliest(cut(p, 2), cut(q, 2))[0] == pytest.approx(0.5)  # at the least: 0.7 may be 0.2 there
    assert between_likeliest(cut(p, 2), cut(p, 2))[0] == 0

"""Distances are judged together: noise, steps that rounding tips, and the few rows that tipped furthest."""

import numpy as np
import pytest

from pipeline.replay.gap import TIPPED, Gap


def test_rows_are_judged_by_the_root_of_their_mean_square() -> None:
    gap = Gap.of(0.1, np.array([0.3, 0.4, 0.0, 0.0]))
    assert gap.found == pytest.approx(0.25)
    assert (gap.allowed, gap.largest, gap.is_wide) == (0.1, 0.4, True)
    assert not Gap.of(0.25001, gap.row_N).is_wide


def test_noise_that_tips_a_number_to_the_next_moves_it_by_the_root_of_noise_times_step() -> None:
    """A grid of steps of 0.1: a noise of 1e-4 tips one number in a thousand, by 0.1."""
    rng = np.random.default_rng(0)
    values = rng.uniform(-50, 50, 400_000)
    noise, step = 1e-4, 0.1
    moved = np.round((values + noise * rng.choice([-1, 1], len(values))) / step) - np.round(values / step)
    found = Gap.of(noise, np.abs(moved) * step)
    allowed = Gap.of(noise, np.abs(moved) * step, step).allowed
    assert found.found == pytest.approx(np.sqrt(noise * step), rel=0.1)
    assert allowed == pytest.approx(np.sqrt(noise**2 + noise * step))


def test_as_many_rows_as_tipped_are_spared_if_they_are_no_further_than_they_can_tip() -> None:
    row_N = np.array([0.5, 0.5, 0.0, 0.0, 0.0])
    assert Gap.of(0.01, row_N, jump=0.6).found == 0
    assert Gap.of(0.01, np.append(row_N, 0.5), jump=0.6).is_wide and TIPPED == 2
    assert Gap.of(0.01, row_N, jump=np.array([0.6, 0.4, 0.6, 0.6, 0.6])).found == pytest.approx(np.sqrt(0.25 / 5))


def test_what_is_not_a_number_is_infinitely_far_and_no_rows_are_no_gap() -> None:
    assert Gap.of(0.1, np.array([np.nan, 0.0]), jump=1.0).is_wide
    assert not Gap.of(0.1, np.empty(0)).is_wide and Gap.of(0.1, np.empty(0)).allowed == 0.1


def test_a_total_holds_all_rows() -> None:
    total = Gap.total([Gap.of(0.1, np.array([0.3]), 0.2, 0.5), Gap.of(0.2, np.array([0.4, 0.0]))])
    assert total.noise == 0.2 and total.row_N.tolist() == [0.3, 0.4, 0.0]
    assert total.step_N.tolist() == [0.2, 0.0, 0.0] and total.jump_N.tolist() == [0.5, 0.0, 0.0]


def test_rows_that_are_furthest_off_can_be_left_out() -> None:
    gap = Gap.of(0.1, np.array([0.0, 3.0, 0.05, 2.0, 0.01, 0.0, 0.0, 0.0]), np.arange(8.0), 1.0)
    assert gap.without(1 / 4).row_N.tolist() == [0.0, 0.0, 0.0, 0.0, 0.01, 0.05]
    assert 1.0 not in gap.without(1 / 4).step_N and 3.0 not in gap.without(1 / 4).step_N
    assert gap.without(1 / 9).row_N.max() == 3.0

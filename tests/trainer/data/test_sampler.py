"""The order of samples: every epoch once, resumed at any batch, and written down for good."""

from itertools import islice
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.data.sampler import BatchOrder


def order(
    samples: int, batch_size: int, seed: int, batches: int, start: int = 0, lengths: np.ndarray | None = None
) -> list[list[int]]:
    return list(islice(BatchOrder(samples, batch_size, seed, start, lengths), batches))


def padding(batches: list[list[int]], lengths: np.ndarray) -> float:
    """Places of padded batches per token."""
    places = sum(len(batch) * int(lengths[batch].max()) for batch in batches)
    return places / sum(int(lengths[batch].sum()) for batch in batches)


def test_the_order_is_written_down() -> None:
    """Runs that were begun before would go on over other samples."""
    assert order(5, 2, seed=7, batches=6) == [[2, 0], [4, 1], [3, 3], [0, 2], [1, 4], [0, 2]]
    lengths = np.array([3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5])
    assert order(11, 2, seed=7, batches=6, lengths=lengths) == [[8, 7], [1, 3], [6, 4], [2, 5], [0, 10], [9, 10]]


@given(st.integers(1, 9), st.integers(1, 12), st.integers(0, 5), st.integers(0, 20), st.booleans())
def test_every_epoch_visits_each_sample_once(
    samples: int, batch_size: int, seed: int, start: int, grouped: bool
) -> None:
    lengths = np.arange(samples) % 4 if grouped else None
    batches = order(samples, batch_size, seed, batches=4 * samples, lengths=lengths)
    assert {len(batch) for batch in batches} == {batch_size}
    visited = [position for batch in batches for position in batch]
    for first in range(0, len(visited) - samples + 1, samples):
        assert sorted(visited[first : first + samples]) == list(range(samples))
    resumed = order(samples, batch_size, seed, batches=3, start=start, lengths=lengths)
    assert resumed == order(samples, batch_size, seed, start + 3, lengths=lengths)[start:]


def test_samples_of_similar_length_share_a_batch() -> None:
    """Lengths like Dolly's: log-normal, and cut. Random batches of 16 pad threefold."""
    lengths = np.random.default_rng(0).lognormal(5, 0.8, 8_000).clip(1, 1024).astype(int)
    at_random, grouped = order(8_000, 16, 1, 1_000), order(8_000, 16, 1, 1_000, lengths=lengths)
    assert padding(at_random, lengths) > 2.5 and padding(grouped, lengths) < 1.06
    means = [lengths[batch].mean() for batch in grouped]
    assert abs(np.corrcoef(means[:-1], means[1:])[0, 1]) < 0.1  # batches themselves come in any order


def test_samples_meet_others_in_the_next_epoch_even_of_a_small_cache() -> None:
    lengths = np.arange(1, 401)
    batches = {frozenset(batch) for batch in order(400, 4, 0, 300, lengths=lengths)}
    assert len(batches) > 290


@pytest.mark.parametrize("other", [{"seed": 1}, {"samples": 51}])
def test_seeds_and_epochs_have_orders_of_their_own(other: dict[str, Any]) -> None:
    one: dict[str, Any] = {"samples": 50, "batch_size": 50, "seed": 0, "batches": 2}
    first, second = order(**one)
    assert first != second and order(**one | other)[0] != first

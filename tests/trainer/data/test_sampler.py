"""The order of samples: every epoch once, resumed at any batch, and written down for good."""

from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.data.sampler import BatchOrder


def order(samples: int, batch_size: int, seed: int, batches: int, start: int = 0) -> list[list[int]]:
    return list(islice(BatchOrder(samples, batch_size, seed, start), batches))


def test_the_order_is_written_down() -> None:
    """Runs that were begun before would go on over other samples."""
    assert order(5, 2, seed=7, batches=6) == [[2, 0], [4, 1], [3, 3], [0, 2], [1, 4], [0, 2]]


@given(st.integers(1, 9), st.integers(1, 12), st.integers(0, 5), st.integers(0, 20))
def test_every_epoch_visits_each_sample_once(samples: int, batch_size: int, seed: int, start: int) -> None:
    batches = order(samples, batch_size, seed, batches=4 * samples)
    assert {len(batch) for batch in batches} == {batch_size}
    visited = [position for batch in batches for position in batch]
    for first in range(0, len(visited) - samples + 1, samples):
        assert sorted(visited[first : first + samples]) == list(range(samples))
    assert (
        order(samples, batch_size, seed, batches=3, start=start) == order(samples, batch_size, seed, start + 3)[start:]
    )


@pytest.mark.parametrize("other", [{"seed": 1}, {"samples": 51}])
def test_seeds_and_epochs_have_orders_of_their_own(other: dict[str, int]) -> None:
    one = {"samples": 50, "batch_size": 50, "seed": 0, "batches": 2}
    first, second = order(**one)
    assert first != second and order(**one | other)[0] != first

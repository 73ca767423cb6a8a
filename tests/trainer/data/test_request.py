"""Stored rows become one padded tensor, whatever they were stored as; and only what was asked for is answered."""

from pathlib import Path

import numpy as np
import pytest
import torch

from schemas.cache.readable import ReadableCache
from schemas.cache.reader import Cache
from schemas.errors import RunError
from tests.stored import stored
from trainer.data.request import BatchRequest, Drawn, answer_of

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "cache-1"
POSITIONS = [3, 0]


@pytest.fixture(scope="module")
def drawn() -> Drawn:
    cache = Cache(GOLDEN)
    return Drawn(cache, POSITIONS, [cache.sample(position) for position in POSITIONS], [])


def rows_of(cache: ReadableCache, position: int, name: str) -> np.ndarray:
    """By zarr-python alone, from the rows that stand before this sample's in its shard."""
    assert isinstance(cache, Cache)
    shard, row = int(cache.shards[position]), int(cache.rows[position])
    in_shard = [p for p in range(len(cache)) if int(cache.shards[p]) == shard]
    lengths = {int(cache.rows[p]): len(cache.sample(p).token_ids) for p in in_shard}
    start = sum(length for other, length in lengths.items() if other < row)
    return stored(GOLDEN / f"shards/{shard:05d}/states.zarr", name)[start : start + lengths[row]]


def test_states_stand_at_the_left_and_padding_is_zero(drawn: Drawn) -> None:
    hidden = drawn.states(drawn.cache.array("hidden", 1))
    mass = drawn.states(drawn.cache.array("mass", 1), torch.float64)
    lengths = [len(sample.token_ids) for sample in drawn.samples]
    assert hidden.shape == (2, max(lengths), 8) and hidden.dtype == torch.float32
    assert mass.shape == (2, max(lengths)) and mass.dtype == torch.float64
    for row, (position, length) in enumerate(zip(POSITIONS, lengths, strict=True)):
        bits = rows_of(drawn.cache, position, "hidden/1")
        widened = (bits.astype(np.uint32) << 16).view(np.float32)  # what bfloat16 is
        np.testing.assert_array_equal(hidden[row, :length].numpy(), widened)
        np.testing.assert_array_equal(mass[row, :length].numpy(), rows_of(drawn.cache, position, "mass/1"))
        assert not hidden[row, length:].any() and not mass[row, length:].any()


def test_what_was_not_asked_for_is_named() -> None:
    assert answer_of({"a": 1}, "a") == 1
    with pytest.raises(RunError, match=r"^b was not asked for: a loss can read only what is in its `requests`$"):
        answer_of({"a": 1}, "b")


class Count(BatchRequest[int]):
    """How many samples there are: any cache can tell."""

    def collate(self, drawn: Drawn) -> int:
        return len(drawn.samples)


def test_a_request_says_itself_how_it_is_answered(drawn: Drawn) -> None:
    Count().require(drawn.cache)
    assert Count().collate(drawn) == len(POSITIONS)
    with pytest.raises(TypeError, match=r"abstract .*collate"):
        BatchRequest[int]()  # type: ignore[abstract]

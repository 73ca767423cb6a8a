"""Batches: every sample once, within the limit, and little padding."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.teacher.batching import batches


@given(st.lists(st.integers(0, 60), max_size=80), st.integers(1, 200))
def test_every_sample_once_and_within_the_limit(lengths: list[int], batch_tokens: int) -> None:
    result = batches(lengths, batch_tokens)
    flat = [index for batch in result for index in batch]
    assert sorted(flat) == [index for index, length in enumerate(lengths) if length]
    assert flat == sorted(flat, key=lambda i: (-lengths[i], i))  # longest first, stable
    for batch in result:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= batch_tokens
    for batch in result[:-1]:  # none ends before it is full
        assert (len(batch) + 1) * lengths[batch[0]] > batch_tokens


def test_known_batches() -> None:
    assert batches([3, 9, 3, 4, 0, 20], 12) == [[5], [1], [3, 0, 2]]
    assert batches([], 12) == []
    assert batches([0, 0], 12) == []

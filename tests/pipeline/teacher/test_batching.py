"""Batches: every sample once, within the limit, and filled, or with as little padding as a batch's own cost allows."""

from itertools import pairwise, product
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pipeline.teacher.batching import BatchRule, batches
from tests.caches import extraction


def cost_of(lengths: list[int], result: list[list[int]], cost: int) -> int:
    """Positions of all batches, and what each costs beside."""
    return sum(len(batch) * max(lengths[i] for i in batch) + cost for batch in result)


@given(st.lists(st.integers(0, 60), max_size=80), st.integers(1, 200), st.none() | st.integers(0, 100))
def test_every_sample_once_and_within_the_limit(lengths: list[int], tokens: int, cost: int | None) -> None:
    result = batches(lengths, BatchRule(tokens, cost))
    flat = [index for batch in result for index in batch]
    assert sorted(flat) == [index for index, length in enumerate(lengths) if length]
    assert flat == sorted(flat, key=lambda i: (-lengths[i], i))  # longest first, stable
    for batch in result:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= tokens
    for batch in result[:-1] if cost is None else []:  # none ends before it is full
        assert (len(batch) + 1) * lengths[batch[0]] > tokens


@given(st.lists(st.integers(1, 60), min_size=1, max_size=9), st.integers(1, 300), st.integers(0, 50))
def test_no_other_way_to_cut_costs_less(lengths: list[int], tokens: int, cost: int) -> None:
    """Against all of them."""
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    least = min(
        cost_of(lengths, cut, cost)
        for ends in product([False, True], repeat=len(order) - 1)
        for cut in [[order[a:b] for a, b in pairwise([0, *(i + 1 for i, end in enumerate(ends) if end), len(order)])]]
        if all(len(batch) == 1 or len(batch) * lengths[batch[0]] <= tokens for batch in cut)
    )
    assert cost_of(lengths, batches(lengths, BatchRule(tokens, cost)), cost) == least


def test_known_batches() -> None:
    assert batches([3, 9, 3, 4, 0, 20], BatchRule(12)) == [[5], [1], [3, 0, 2]]
    assert batches([3, 9, 3, 4, 0, 20], BatchRule(12, cost=0)) == [[5], [1], [3], [0, 2]]
    assert batches([3, 9, 3, 4, 0, 20], BatchRule(12, cost=2)) == [[5], [1], [3, 0, 2]]  # two would save 1
    assert batches([10, 100, 100, 10, 100, 10], BatchRule(1000)) == [[1, 2, 4, 0, 3, 5]]  # 600 positions for 330 tokens
    assert batches([10, 100, 100, 10, 100, 10], BatchRule(1000, cost=64)) == [[1, 2, 4], [0, 3, 5]]
    for rule in (BatchRule(12), BatchRule(12, 0), BatchRule(12, 64)):
        assert batches([], rule) == batches([0, 0], rule) == []


def test_the_rule_of_an_extraction_follows_its_device() -> None:
    def rule(workers: dict[str, int], **batching: Any) -> BatchRule:
        sections = {"batching": {"batch_tokens": 512} | batching, "workers": workers}
        return BatchRule.of(extraction(Path("o"), Path("m"), Path("c.jsonl"), **sections))

    assert rule({}) == BatchRule(512, 64) and rule({"gpus": 1}) == BatchRule(512)
    assert rule({}, batch_cost="fill") == BatchRule(512)
    assert rule({}, batch_cost=0) == rule({"gpus": 1}, batch_cost=0) == BatchRule(512, 0)

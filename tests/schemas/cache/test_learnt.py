"""What there is to learn in a shard, beside counts by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from schemas.cache.learnt import LearntRecord, count_learnt, sum_learnt
from schemas.cache.samples import Turn
from schemas.cache.shard import read_shard
from tests.shards import PRINT, samples, write

OFFSETS = np.array([[0, 0], [0, 3], [3, 5], [5, 9], [9, 12]], np.int32)


def test_tokens_that_end_in_a_target_are_learnt() -> None:
    """Of [4, 8) and [8, 12): (3, 5] and (9, 12] end in one, and (5, 9] too, in the second."""
    targets = np.array([[4, 8], [8, 12]], np.int32)
    turns = (Turn(0, "user", "content", 0, 3), Turn(1, "assistant", "content", 4, 8), Turn(1, "assistant", "end", 8, 9))
    sample = replace(samples("s", [5])[0], token_offsets=OFFSETS, targets=targets, turns=turns)
    assert count_learnt([sample]) == LearntRecord(turns=2, targets=2, tokens=3)
    one = replace(sample, targets=np.array([[3, 5]], np.int32), turns=())
    assert count_learnt([one]) == LearntRecord(turns=0, targets=1, tokens=1)
    assert count_learnt([sample, one]) == sum_learnt([count_learnt([sample]), count_learnt([one])])
    assert count_learnt([]) == sum_learnt([]) == LearntRecord(turns=0, targets=0, tokens=0)


def test_a_shard_says_it(tmp_path: Path) -> None:
    record = write(tmp_path, 0, (3, 5))
    assert record.learnt == count_learnt(samples("u0", [3, 5])) and record.learnt.tokens > 0
    assert read_shard(tmp_path / "shards" / "00000", PRINT).learnt == record.learnt


def test_a_shard_of_before_does_not() -> None:
    assert sum_learnt([LearntRecord(turns=0, targets=1, tokens=1), None]) is None

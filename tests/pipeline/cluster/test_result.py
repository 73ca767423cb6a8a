"""What an extraction came to, over shards and reports that are counted by hand."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pipeline.cluster.result import make_result
from pipeline.work.worker import UnitReport
from schemas.cache.learnt import LearntRecord
from schemas.cache.manifest import CorpusRecord
from schemas.cache.seen_shard import SeenShard
from schemas.cache.shard import ShardRecord
from schemas.errors import CorpusError
from schemas.storage.blocks import BlockedFile


def shard(unit: int, samples: int, tokens: int, **counts: int) -> ShardRecord:
    files = {name: BlockedFile(bytes=size, sha256="0") for name, size in (("samples.arrow", 100), ("a/b", 7 * tokens))}
    base = {"truncated": 0, "overlong": 0} | counts
    return ShardRecord(fingerprint="f", unit=unit, samples=samples, tokens=tokens, files=files, **base)


RECORDS = {0: shard(0, 3, 30, truncated=1), 1: shard(1, 2, 20, overlong=4), 2: shard(2, 1, 5)}
SHARDS = {unit: SeenShard.of(record, "0") for unit, record in RECORDS.items()}
REPORTS = {
    1: UnitReport(RECORDS[1], tokens=24, first_batch=100.0, first_tokens=10, last_batch=104.0),
    2: UnitReport(RECORDS[2], tokens=6, first_batch=101.0, first_tokens=6, last_batch=102.0),
}
# As far as a result looks into a request.
REQUEST = cast(
    Any,
    SimpleNamespace(
        config=SimpleNamespace(teacher=SimpleNamespace(max_tokens=8)),
        plan=SimpleNamespace(
            corpus=CorpusRecord(samples=7, empty=5, repeated=3, sha256=""), begin_twice=2, conversations=None
        ),
        left_out=((Path("a.csv"), "holds no record"),),
    ),
)


def test_counts_are_of_the_whole_cache_and_speed_of_this_call() -> None:
    found = make_result(REQUEST, Path("c"), SHARDS, REPORTS, started=0.0)
    assert (found.units, found.samples, found.tokens, found.truncated, found.overlong) == (3, 6, 55, 1, 4)
    assert found.left_out == REQUEST.left_out
    assert (found.empty, found.repeated, found.begin_twice) == (5, 3, 2)
    assert (found.new_units, found.new_tokens) == (2, 30)
    assert found.bytes == 3 * 100 + 7 * 55 and not found.already_done
    # From the end of the first batch, whose 10 tokens do not count, to the end of the last.
    assert found.tokens_per_second == (30 - 10) / 4


def test_what_is_learnt_is_summed_unless_a_shard_of_before_does_not_say() -> None:
    each = [LearntRecord(turns=4, targets=2, tokens=9), LearntRecord(turns=0, targets=3, tokens=5)]
    known = {
        unit: SeenShard.of(shard(unit, 3, 30).model_copy(update={"learnt": found}), "0")
        for unit, found in enumerate(each)
    }
    found = make_result(REQUEST, Path("c"), known, {}, started=0.0)
    assert found.learnt == LearntRecord(turns=4, targets=5, tokens=14)
    assert make_result(REQUEST, Path("c"), known | {2: SHARDS[2]}, {}, started=0.0).learnt is None


def test_a_cache_that_was_complete_is_said_to_be() -> None:
    assert make_result(REQUEST, Path("c"), SHARDS, {}, started=0.0, already_done=True).already_done


def test_without_new_units_there_is_no_speed() -> None:
    found = make_result(REQUEST, Path("c"), SHARDS, {}, started=0.0)
    assert not found.already_done and found.tokens_per_second is None and found.new_tokens == 0
    once = {1: replace(REPORTS[1], last_batch=100.0)}  # a single batch
    assert make_result(REQUEST, Path("c"), SHARDS, once, started=0.0).tokens_per_second is None
    none = {0: UnitReport(RECORDS[0], tokens=0)}  # every sample was left out
    assert make_result(REQUEST, Path("c"), SHARDS, none, started=0.0).tokens_per_second is None


def test_a_cache_without_a_sample_is_refused() -> None:
    wanted = (
        r"^every sample is longer than teacher\.max_tokens \(8\) allows, and c is empty: delete it, and raise that or "
    )
    with pytest.raises(CorpusError, match=wanted):
        make_result(REQUEST, Path("c"), {0: SeenShard.of(shard(0, 0, 0, overlong=3), "0")}, {}, started=0.0)

from schemas.cache.learnt import LearntRecord
from schemas.cache.shard import ShardRecord
from schemas.cache.totals import ShardTotals


def record(unit: int, learnt: LearntRecord | None) -> ShardRecord:
    return ShardRecord(
        fingerprint="f",
        unit=unit,
        samples=2 + unit,
        tokens=30 + unit,
        truncated=1,
        overlong=unit,
        learnt=learnt,
        files={},
    )


def test_totals_are_sums_over_all_shards() -> None:
    learnt = LearntRecord(turns=1, targets=2, tokens=3)
    assert ShardTotals.of([(record(0, learnt), 100), (record(1, learnt), 50)]) == ShardTotals(
        units=2,
        samples=5,
        tokens=61,
        truncated=2,
        overlong=1,
        bytes=150,
        learnt=LearntRecord(turns=2, targets=4, tokens=6),
    )
    assert ShardTotals.of([(record(0, learnt), 1), (record(1, None), 1)]).learnt is None

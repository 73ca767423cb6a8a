"""What the shards of a cache hold together: said when it is sealed, so that nobody must read every record again."""

from collections.abc import Iterable
from typing import Annotated, Self

from pydantic import Field

from schemas.cache.learnt import LearntRecord, sum_learnt
from schemas.cache.shard import ShardRecord
from schemas.strict import Strict

Count = Annotated[int, Field(ge=0)]


class ShardTotals(Strict):
    """Sums over all shards."""

    units: Count
    samples: Count
    tokens: Count
    """That are kept."""
    truncated: Count
    overlong: Count
    bytes: Count
    """Of all files but each shard.json."""
    learnt: LearntRecord | None
    """Null if a shard of an earlier version does not say."""

    @classmethod
    def of(cls, shards: Iterable[tuple[ShardRecord, int]]) -> Self:
        """Of these records, each with the bytes of its shard's files."""
        seen = list(shards)
        records = [record for record, _ in seen]
        return cls(
            units=len(seen),
            samples=sum(record.samples for record in records),
            tokens=sum(record.tokens for record in records),
            truncated=sum(record.truncated for record in records),
            overlong=sum(record.overlong for record in records),
            bytes=sum(size for _, size in seen),
            learnt=sum_learnt([record.learnt for record in records]),
        )

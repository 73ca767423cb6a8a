"""What there is to learn in a shard, counted when it is written: a cache says it without reading its texts again."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from schemas.cache.samples import CachedSample
from schemas.cache.targets import ends_inside
from schemas.strict import Strict


class LearntRecord(Strict):
    """Counts over the samples of a shard, as they are after cutting."""

    turns: Annotated[int, Field(ge=0, description="Messages of conversations of which the text shows something.")]
    targets: Annotated[int, Field(ge=0, description="Ranges that are learnt: answers, in a conversation.")]
    tokens: Annotated[int, Field(ge=0, description="Tokens that belong to a target.")]


def count_learnt(samples: Sequence[CachedSample]) -> LearntRecord:
    """The counts of these samples."""
    return LearntRecord(
        turns=sum(len({turn.message for turn in sample.turns}) for sample in samples),
        targets=sum(len(sample.targets) for sample in samples),
        tokens=sum(int(ends_inside(sample.token_offsets[:, 1], sample.targets).sum()) for sample in samples),
    )


def sum_learnt(records: Sequence[LearntRecord | None]) -> LearntRecord | None:
    """Of several shards. None if one of them does not say."""
    known = [record for record in records if record is not None]
    if len(known) < len(records):
        return None
    return LearntRecord(
        turns=sum(record.turns for record in known),
        targets=sum(record.targets for record in known),
        tokens=sum(record.tokens for record in known),
    )

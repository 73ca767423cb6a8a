"""Batches that were halved because memory ran out, in a file that a shard has only if there were any.

Their samples' states agree with those of the whole batch to rounding. It is one more of "every other file" that
shard.json names with its checksum, so that readers which do not know it pass over it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import NonNegativeInt

from schemas.strict import Strict

HALVED = "halved.json"


class HalvedBatch(Strict):
    """One batch, or part of one."""

    samples: NonNegativeInt
    tokens: NonNegativeInt


class HalvedBatches(Strict):
    """The whole of halved.json."""

    format: Literal["stillroom-halved-batches"] = "stillroom-halved-batches"
    version: Literal[1] = 1
    batches: list[HalvedBatch]


def write_halved(folder: Path, batches: Sequence[HalvedBatch]) -> None:
    """Write halved.json into a shard that is being made."""
    record = HalvedBatches(batches=list(batches))
    (folder / HALVED).write_text(record.model_dump_json(indent=1) + "\n", encoding="utf-8")

"""What is kept in memory of a shard that was looked at: all that its index, its seal and counts over a cache need.

A record with the checksums of its files takes tens of kilobytes, and a cache has thousands of shards.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from schemas.cache.checksums import Checksums, find_sealed_shard
from schemas.cache.manifest import CacheManifest
from schemas.cache.shard import SAMPLES, ShardRecord
from schemas.cache.ways_out import redo
from schemas.errors import CacheError
from schemas.storage.blocks import BlockedFile


@dataclass(frozen=True)
class SeenShard:
    """A shard whose record is sound and whose files had their sizes."""

    record: ShardRecord  # without its files and costs
    sha256: str  # of shard.json
    bytes: int  # of its other files
    blocks: int | None  # of these; None if they have no checksums
    samples: BlockedFile | None  # samples.arrow; None where that of another shard holds the texts

    @classmethod
    def of(cls, record: ShardRecord, sha256: str) -> Self:
        """Of its whole record, and of what shard.json hashes to."""
        return cls(
            record=record.model_copy(update={"files": {}, "costs": {}}),
            sha256=sha256,
            bytes=record.file_bytes,
            blocks=record.block_count,
            samples=record.files.get(SAMPLES),
        )

    def texts(self, shard: Path) -> BlockedFile:
        """samples.arrow. Raises CacheError if there is none: arrays that were added stand in the place of the shard."""
        if self.samples is None:
            raise CacheError(f"{shard} has no {SAMPLES}; {redo(shard)}")
        return self.samples


def whole_units(seen: Mapping[int, Mapping[int, "SeenShard"]]) -> dict[int, "SeenShard"]:
    """Of units that have a shard in every section: that of the texts, with the bytes of all."""
    first, *others = seen.values()
    return {
        unit: replace(shard, bytes=shard.bytes + sum(other[unit].bytes for other in others))
        for unit, shard in first.items()
        if all(unit in other for other in others)
    }


Seen = Mapping[int, Mapping[int, SeenShard]]
"""By the number of a section, and by unit."""


def look_at_shard(cache: Path, unit: int, manifest: CacheManifest, sealed: Checksums | None) -> SeenShard:
    """Read shard.json and ask for the sizes of its files. Raises CacheError as `check_sealed_shard` does."""
    return SeenShard.of(*find_sealed_shard(cache, unit, manifest, sealed))

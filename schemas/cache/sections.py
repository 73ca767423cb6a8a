"""Where a cache's arrays lie: those that came together stand in one folder, and were calibrated together.

    CACHE/shards, CACHE/codecs              the arrays that the cache was begun with, and the texts
    CACHE/added/1/shards, .../codecs        the first that were added: a shard for each unit, of states alone

A shard of the latter says by SHA-256 which samples.arrow its rows are of. One manifest, one index and one
checksums.json cover all of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from schemas.cache.folders import ADDED
from schemas.cache.manifest import CacheManifest
from schemas.cache.shard import RECORD, SAMPLES, ShardRecord, shard_path
from schemas.cache.ways_out import redo
from schemas.errors import CacheError


@dataclass(frozen=True)
class Section:
    """The arrays of a cache that came together. For these, its folder and manifest are those of a cache of their own,
    except that only the first of all sections has teacher/, texts and an index."""

    cache: Path
    number: int
    manifest: CacheManifest  # of these arrays alone

    @cached_property
    def folder(self) -> Path:
        """The cache itself, or CACHE/added/NUMBER."""
        return self.cache / ADDED / str(self.number) if self.number else self.cache

    @property
    def holds_texts(self) -> bool:
        """Whether its shards have a samples.arrow."""
        return self.number == 0

    def shard(self, unit: int) -> Path:
        """The folder of one shard."""
        return shard_path(self.folder, unit)


def list_sections(cache: Path, manifest: CacheManifest) -> list[Section]:
    """Those of a cache, the earliest first: one, unless arrays were added."""
    return [Section(cache, number, arrived) for number, arrived in enumerate(manifest.by_arrival())]


def array_folders(cache: Path, manifest: CacheManifest) -> Mapping[str, Path]:
    """By the path of an array, the folder that holds its shards/ and codecs/."""
    return {
        array.path: section.folder for section in list_sections(cache, manifest) for array in section.manifest.arrays
    }


def require_paired(section: Section, unit: int, added: ShardRecord, samples_sha256: str, first: ShardRecord) -> None:
    """Raises CacheError unless the rows of a shard that was `added` are those of its unit's samples.arrow, which hashes
    to that."""
    counts = ("samples", "tokens", "kept", "truncated", "overlong")
    wrong = [name for name in counts if getattr(added, name) != getattr(first, name)]
    if added.texts != samples_sha256 or wrong:
        shard, texts = section.shard(unit), shard_path(section.cache, unit) / SAMPLES
        raise CacheError(f"{shard / RECORD} is of other samples than {texts} holds; {redo(shard)}")

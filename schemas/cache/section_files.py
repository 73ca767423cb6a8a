"""The shards of one section of an open cache: their records and files, each checked before it is used."""

from collections.abc import Sequence
from functools import cache, lru_cache

from schemas.cache.checked_files import CheckedFiles
from schemas.cache.checksums import Checksums, check_sealed_shard, require_own_codecs
from schemas.cache.copied import read_shard_records
from schemas.cache.sections import Section
from schemas.cache.shard import SAMPLES, ShardRecord, parse_shard
from schemas.cache.shard_files import ShardFiles
from schemas.cache.ways_out import redo
from schemas.errors import CacheError

IN_HAND = 8  # records of shards with all their checksums: a shard's arrays are touched one after the other


class SectionFiles:
    """What was checked once, by any of the processes that were forked from the one that made this, stays so."""

    def __init__(self, section: Section, sealed: Checksums | None):
        """`sealed` is what the whole cache was sealed with."""
        self.section, self._sealed = section, None if sealed is None else sealed.of(section.number)
        self.checked = CheckedFiles(section.manifest, None if self._sealed is None else self._sealed.blocks)
        self.record = cache(self._check)
        self.whole_record = lru_cache(maxsize=IN_HAND)(self._read)

    def files(self, unit: int) -> ShardFiles:
        """Those of one shard."""
        return ShardFiles(self.section.shard(unit), unit, self.checked, lambda: self.whole_record(unit))

    def read_records(self, units: Sequence[int]) -> list[ShardRecord]:
        """The whole record of each unit, read anew. Raises CacheError for one that is not as it was sealed."""
        section, found = self.section, list[ShardRecord]()
        for unit, content in zip(units, read_shard_records(section.folder, units), strict=True):
            sha256 = None if self._sealed is None else self._sealed.shards[unit]
            fingerprint = section.manifest.fingerprint_of(unit)
            found.append(parse_shard(content, section.shard(unit), fingerprint, sha256)[0])
        return found

    def _read(self, unit: int) -> ShardRecord:
        section = self.section
        record = check_sealed_shard(section.folder, unit, section.manifest, self._sealed)
        require_own_codecs(section.folder, unit, record)
        if section.holds_texts and SAMPLES not in record.files:
            shard = section.shard(unit)
            raise CacheError(f"{shard} has no {SAMPLES}; {redo(shard)}")
        return record

    def _check(self, unit: int) -> ShardRecord:
        """The part of a shard's record that stays once it is checked: its names and checksums would be most of it."""
        return self.whole_record(unit).model_copy(update={"files": {}, "costs": {}})

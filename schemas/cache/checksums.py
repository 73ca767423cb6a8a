"""checksums.json: what a complete cache's small files hash to. Every other file's checksum stands in one of them.

    checksums.json -> cache.json, index.parquet
                   -> teacher/files.json   -> every file of teacher/
                   -> codecs/files.json    -> every file of codecs/
                   -> shards/*/shard.json  -> every file of a shard
                   -> added/*/codecs, added/*/shards, likewise, where arrays were added

Written when a cache is sealed, before its index takes its place. Caches made before this file existed have none and are
read without it: what follows from their identity and shards is checked all the same.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from schemas.cache.codec_files import CODEC_FILES, CODEC_FOLDER, codecs_sha256
from schemas.cache.copied import copy_small_files, require_shard
from schemas.cache.folders import ADDED
from schemas.cache.manifest import MANIFEST, CacheManifest, read_manifest
from schemas.cache.shard import RECORD, ShardRecord, find_shard, shard_path
from schemas.cache.teacher_files import TEACHER_FILES
from schemas.cache.totals import ShardTotals
from schemas.errors import CacheError
from schemas.storage.file_record import FileRecord, check_file, describe_file
from schemas.storage.published import write_text
from schemas.storage.record import parse_record, read_record
from schemas.strict import Strict

if TYPE_CHECKING:
    from schemas.cache.seen_shard import SeenShard

CHECKSUMS = "checksums.json"


class AddedChecksums(Strict):
    """Of arrays that were added to the cache."""

    codecs: FileRecord | None = None
    """Of codecs/files.json beside their shards; null if no codec was calibrated."""
    shards: list[str]
    """SHA-256 of every shard.json, by the number of its unit."""
    blocks: list[int]
    """How many blocks the files of every shard have, by the number of its unit."""


class Checksums(Strict):
    """The whole of checksums.json."""

    format: Literal["stillroom-checksums"] = "stillroom-checksums"
    version: Literal[1, 2, 3] = 3
    """2 brought `codecs` and `blocks`, 3 `totals`."""
    manifest: FileRecord
    """Of cache.json."""
    index: FileRecord
    """Of index.parquet."""
    teacher: FileRecord | None
    """Of teacher/files.json; null if teacher/ was made before that file existed."""
    codecs: FileRecord | None = None
    """Of codecs/files.json; null if no codec was calibrated."""
    shards: list[str]
    """SHA-256 of every shard.json, by the number of its unit."""
    blocks: list[int] | None = None
    """How many blocks the files of every shard have, by the number of its unit; null if they have no checksums."""
    totals: ShardTotals | None = None
    """Over the units, each with the files of all its shards."""
    added: list[AddedChecksums] = []
    """In the order in which arrays were added; left out where none were."""

    def of(self, section: int) -> Self:
        """Those of the shards and codecs of one section."""
        return self if section == 0 else self.model_copy(update=dict(self.added[section - 1]))

    def check_manifest(self, cache: Path) -> None:
        """Raises CacheError if cache.json is not the one that was sealed."""
        way_out = f"run `stillroom extract` with the config of {cache}: it writes that file anew, and no shard"
        check_file(cache / MANIFEST, self.manifest, way_out)

    def check_folders(self, cache: Path) -> None:
        """Raises CacheError if teacher/files.json or codecs/files.json is not the one that was sealed."""
        TEACHER_FILES.check_record(cache, self.teacher)
        CODEC_FILES.check_record(cache, self.codecs)
        for number, added in enumerate(self.added, 1):
            CODEC_FILES.check_record(cache / ADDED / str(number), added.codecs)


def read_checksums(cache: Path, manifest: CacheManifest) -> Checksums | None:
    """checksums.json of a cache, None where there is none. Raises CacheError if it is damaged."""
    path = cache / CHECKSUMS
    if not path.exists():
        return None
    try:
        found = read_record(path, Checksums, CacheError, f"cannot check {cache}")
    except CacheError as error:
        raise CacheError(f"{error}; remove it and run `stillroom reindex {cache}`, which makes it anew") from error
    lists = [found.shards, found.blocks, *(listed for each in found.added for listed in (each.shards, each.blocks))]
    if any(len(listed) != manifest.units for listed in lists if listed is not None):
        raise CacheError(
            f"{path} knows {len(found.shards)} shards, {MANIFEST} says {manifest.units}; remove the former and run "
            f"`stillroom reindex {cache}`"
        )
    if len(found.added) != (added := len(manifest.by_arrival()) - 1):
        raise CacheError(
            f"{path} knows {len(found.added)} times that arrays were added, {MANIFEST} says {added}; remove the former "
            f"and run `stillroom reindex {cache}`"
        )
    return found


def open_manifest(cache: Path) -> tuple[CacheManifest, Checksums | None]:
    """cache.json and what the cache was sealed with, each agreeing with itself and with the other.

    A cache under a URL is copied, but for its shards. Raises CacheError: no cache, damaged, altered, of an unknown
    version; StorageError.
    """
    copy_small_files(cache, CHECKSUMS, lambda content: parse_record(content, Checksums, cache / CHECKSUMS, CacheError))
    manifest = read_manifest(cache)
    sealed = read_checksums(cache, manifest)
    if sealed is not None:
        sealed.check_manifest(cache)
        sealed.check_folders(cache)
    manifest.check_copies(cache)
    return manifest, sealed


def check_sealed_shard(cache: Path, unit: int, manifest: CacheManifest, sealed: Checksums | None) -> ShardRecord:
    """`check_shard` of a unit, whose record must be the one that the cache was sealed with. Raises CacheError."""
    return find_sealed_shard(cache, unit, manifest, sealed)[0]


def find_sealed_shard(
    cache: Path, unit: int, manifest: CacheManifest, sealed: Checksums | None
) -> tuple[ShardRecord, str]:
    """The same, and the SHA-256 of shard.json."""
    require_shard(cache, unit)
    record, sha256 = find_shard(shard_path(cache, unit), manifest, None if sealed is None else sealed.shards[unit])
    if sealed is not None and sealed.blocks is not None and sealed.blocks[unit] != record.block_count:
        raise CacheError(
            f"{cache / CHECKSUMS} says that the files of shard {unit} have {sealed.blocks[unit]} blocks, and "
            f"{RECORD} lists {record.block_count}; remove the former and run `stillroom reindex {cache}`"
        )
    return record, sha256


def require_own_codecs(cache: Path, unit: int, record: ShardRecord) -> None:
    """Raises CacheError unless CACHE/codecs is what this shard was encoded by. It is no damage to the shard if not."""
    if record.codecs != codecs_sha256(cache):
        raise CacheError(
            f"shard {unit} was encoded by other tables than {cache / CODEC_FOLDER} holds; put the right ones in their "
            "place, or remove that folder and extract again: the same tables are made anew, and no shard is redone"
        )


def write_checksums(cache: Path, index: Path, sections: Sequence[Sequence["SeenShard"]]) -> None:
    """Seal `cache`, whose new index lies at `index`, over all shards of all its sections, each in order of units."""
    sums = [_of_section(cache / ADDED / str(number) if number else cache, s) for number, s in enumerate(sections)]
    units = zip(*sections, strict=True)
    record = Checksums(
        manifest=describe_file(cache / MANIFEST),
        index=describe_file(index),
        teacher=TEACHER_FILES.describe(cache),
        **sums[0],
        totals=ShardTotals.of((each[0].record, sum(shard.bytes for shard in each)) for each in units),
        added=[AddedChecksums(**added) for added in sums[1:]],
    )
    unused = None if record.added else {"added"}
    write_text(cache / CHECKSUMS, record.model_dump_json(indent=1, exclude=unused) + "\n")


def _of_section(folder: Path, shards: Sequence["SeenShard"]) -> dict[str, Any]:
    blocks = [shard.blocks for shard in shards]
    return {
        "codecs": CODEC_FILES.describe(folder),
        "shards": [shard.sha256 for shard in shards],
        "blocks": None if None in blocks else blocks,
    }

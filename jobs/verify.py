"""`stillroom verify`: read a whole cache and check everything that can be checked without the teacher."""

from pathlib import Path

from schemas.cache.index import require_index
from schemas.cache.manifest import MANIFEST, TEACHER, read_manifest
from schemas.cache.reader import Cache
from schemas.cache.shard import ShardRecord
from schemas.cache.teacher_files import check_teacher_files
from schemas.cache.verify import check_copies, check_index, verify_shard
from schemas.errors import CacheError, StillroomError
from schemas.models.teacher_head import load_teacher_embedding, load_teacher_head
from schemas.progress import track


def verify_cache(path: Path) -> None:
    """Print a summary if all is well. Raises CacheError with one line for every damaged shard."""
    manifest = read_manifest(path)
    check_copies(path, manifest)
    require_index(path, manifest)
    if not check_teacher_files(path):
        print(f"{path / TEACHER} was written without checksums: only its shapes and numbers are checked")
    load_teacher_head(path, manifest)
    load_teacher_embedding(path, manifest)
    problems, records = list[str](), list[ShardRecord]()
    for unit in track("verifying", "shards", range(manifest.units)):
        try:
            records.append(verify_shard(path, unit, manifest))
        except StillroomError as error:
            problems.append(str(error))
    if problems:
        raise CacheError(f"{len(problems)} of {manifest.units} shards are damaged:\n  " + "\n  ".join(problems))
    planned = sum(record.samples + record.overlong for record in records)
    if planned != manifest.corpus.samples:
        raise CacheError(
            f"{path}: the shards account for {planned} samples, {MANIFEST} says {manifest.corpus.samples}; "
            "extract again"
        )
    check_index(Cache(path), records)
    print(
        f"{path}: {manifest.units} shards, {sum(record.samples for record in records):,} samples, "
        f"{sum(record.tokens for record in records):,} tokens; every checksum, row and number is good"
    )

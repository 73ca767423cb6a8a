"""`stillroom verify`: read a whole cache and check everything that can be checked without the teacher."""

from pathlib import Path

from schemas.cache.checksums import CHECKSUMS, open_manifest
from schemas.cache.codec_files import CODEC_FILES
from schemas.cache.index import require_index
from schemas.cache.manifest import TEACHER
from schemas.cache.teacher_files import TEACHER_FILES
from schemas.cache.verify import ProvenShard, verify_index, verify_shards
from schemas.console import say
from schemas.errors import CacheError
from schemas.models.teacher_head import load_teacher_embedding, load_teacher_head
from schemas.progress import Progress


def verify_cache(path: Path) -> None:
    """Print a summary if all is well. Raises CacheError with one line for every damaged shard."""
    manifest, sealed = open_manifest(path)
    require_index(path, manifest)
    if not TEACHER_FILES.check(path):
        say(f"{path / TEACHER} was written without checksums: only its shapes and numbers are checked")
    CODEC_FILES.check(path)
    load_teacher_head(path, manifest)
    load_teacher_embedding(path, manifest)
    shards, problems = list[ProvenShard](), list[str]()
    with Progress("verifying", "shards", manifest.units) as progress:
        for number, shard in enumerate(verify_shards(path, manifest, sealed), 1):
            if isinstance(shard, ProvenShard):
                shards.append(shard)
            else:
                problems.append(str(shard))
            progress.update(number)
    if problems:
        raise CacheError(f"{len(problems)} of {manifest.units} shards are damaged:\n  " + "\n  ".join(problems))
    verify_index(path, manifest, sealed, shards)
    if sealed is None:
        say(
            f"{path} was sealed without {CHECKSUMS}: what its shards and its identity do not tell is not checked (the "
            f"teacher's name, counts of what was left out, versions); `stillroom reindex {path}` seals it as it is"
        )
    say(
        f"{path}: {manifest.units} shards, {sum(shard.record.samples for shard in shards):,} samples, "
        f"{sum(shard.record.tokens for shard in shards):,} tokens; every checksum, row and number is good"
    )

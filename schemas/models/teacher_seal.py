"""Before a cache is sealed: its teacher's files are proven, and covered by checksums if they are not yet."""

from pathlib import Path

from schemas.cache.manifest import TEACHER, CacheManifest
from schemas.cache.teacher_files import TEACHER_FILES
from schemas.models.teacher_head import load_teacher_embedding, load_teacher_head
from schemas.models.teacher_proof import prove_teacher
from schemas.storage.atomic import disk_full


def cover_teacher(cache: Path, manifest: CacheManifest) -> None:
    """Give CACHE/teacher its files.json if it was made before there was one, because what is sealed is believed.

    Raises CacheError: a file of it is altered, added, missing, misshapen or not finite. Reads every byte of it.
    """
    prove_teacher(cache, manifest)
    if TEACHER_FILES.check(cache):
        return
    load_teacher_head(cache, manifest)
    load_teacher_embedding(cache, manifest)
    with disk_full(TEACHER, cache):
        TEACHER_FILES.write_record(cache / TEACHER)

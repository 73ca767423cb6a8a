"""Room on the disk: asked before the start and before every unit, so that extraction ends before the disk is full."""

import shutil
from pathlib import Path

from rich.filesize import decimal

from schemas.cache.dtypes import STORED
from schemas.cache.manifest import CacheManifest
from schemas.cache.teacher import TeacherRecord
from schemas.errors import ResourceError

CODEBOOK_BYTES = 256 * 8 * 2  # of a stage; there is about one for every other component
CENTROID_BYTES = 256 * 4  # per component
RESERVE_BYTES = 256 * 2**20  # left free: the index, the log, other people's files, and what estimates get wrong


def free_bytes(cache: Path) -> int:
    """Free bytes of the file system that holds `cache`, which exists."""
    return shutil.disk_usage(cache).free


def teacher_bytes(teacher: TeacherRecord) -> int:
    """The bytes of unembedding and input embeddings in teacher/; the tokenizer, some MB, is left to the reserve."""
    size = 0
    if teacher.head is not None:
        width = teacher.hidden_size + teacher.head.bias
        size += teacher.vocab_size * width * STORED[teacher.head.dtype].itemsize
    if teacher.embedding is not None:
        size += teacher.embedding.rows * teacher.embedding.width * STORED[teacher.embedding.dtype].itemsize
    return size


def codec_bytes(manifest: CacheManifest) -> int:
    """About the bytes of codecs/: of each layer a basis, its inverse, 256 centroids, and a codebook for each stage."""
    widths = [array.width or 1 for array in manifest.arrays if array.encoding == "rvq"]
    return sum((2 * 4 * width + CENTROID_BYTES + CODEBOOK_BYTES // 2) * width for width in widths)


def has_room(cache: Path, needed: int) -> bool:
    """Returns whether `needed` bytes fit and leave the reserve."""
    return needed + RESERVE_BYTES <= free_bytes(cache)


def require_room(cache: Path, shards: int, units: int, of: int, beside: int = 0) -> None:
    """Raises ResourceError that says how much is needed and how much is there: for the bytes of the missing `shards` of
    so many `units` of all, and those `beside` them, of teacher/ and codecs/.
    """
    needed = shards + beside
    if not has_room(cache, needed):
        of_teacher = f" with the {decimal(beside)} of what lies beside them" if beside else ""
        raise ResourceError(
            f"{units} of {of} units are still to be written to {cache}, about "
            f"{decimal(needed)}{of_teacher}, and {decimal(free_bytes(cache))} are free (of which "
            f"{decimal(RESERVE_BYTES)} are kept); make room and run the same command again, or keep fewer layers, or a "
            "smaller states.encoding"
        )

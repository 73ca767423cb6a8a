"""Room on the disk: asked before the start and before every unit, so that extraction ends before the disk is full."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from rich.filesize import decimal

from pipeline.corpus.plan import Plan, Unit, predict_bytes
from schemas.cache.arrays import ArrayRecord
from schemas.cache.dtypes import STORED
from schemas.cache.teacher import TeacherRecord
from schemas.errors import ResourceError

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


def has_room(cache: Path, plan: Plan, arrays: list[ArrayRecord], units: Iterable[Unit], beside: int = 0) -> bool:
    """Returns whether `units` and the bytes `beside`, none of them written yet, fit and leave the reserve."""
    return predict_bytes(plan, arrays, units) + beside + RESERVE_BYTES <= free_bytes(cache)


def require_room(cache: Path, plan: Plan, arrays: list[ArrayRecord], units: list[Unit], beside: int = 0) -> None:
    """Raises ResourceError that says how much is needed and how much is there; `beside` are bytes of teacher/."""
    if not has_room(cache, plan, arrays, units, beside):
        needed = predict_bytes(plan, arrays, units) + beside
        of_teacher = f" with the {decimal(beside)} of teacher/" if beside else ""
        raise ResourceError(
            f"{len(units)} of {len(plan.units)} units are still to be written to {cache}, about "
            f"{decimal(needed)}{of_teacher}, and {decimal(free_bytes(cache))} are free (of which "
            f"{decimal(RESERVE_BYTES)} are kept); make room and run the same command again, or keep fewer layers"
        )

"""Room on the disk: asked before the start and before every unit, so that extraction ends before the disk is full."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from rich.filesize import decimal

from pipeline.plan import Plan, Unit, predict_bytes
from schemas.errors import ResourceError
from schemas.manifest import ArrayRecord

RESERVE_BYTES = 256 * 2**20  # left free: the index, the log, other people's files, and what estimates get wrong


def free_bytes(cache: Path) -> int:
    """Free bytes of the file system that holds `cache`, which exists."""
    return shutil.disk_usage(cache).free


def has_room(cache: Path, plan: Plan, arrays: list[ArrayRecord], units: Iterable[Unit]) -> bool:
    """Whether `units`, none of them written yet, fit and leave the reserve."""
    return predict_bytes(plan, arrays, units) + RESERVE_BYTES <= free_bytes(cache)


def require_room(cache: Path, plan: Plan, arrays: list[ArrayRecord], units: list[Unit]) -> None:
    """Raises ResourceError that says how much is needed and how much is there."""
    if not has_room(cache, plan, arrays, units):
        raise ResourceError(
            f"{len(units)} of {len(plan.units)} units are still to be written to {cache}, about "
            f"{decimal(predict_bytes(plan, arrays, units))}, and {decimal(free_bytes(cache))} are free (of which "
            f"{decimal(RESERVE_BYTES)} are kept); make room and run the same command again, or keep fewer layers"
        )

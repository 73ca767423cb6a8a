"""What `stillroom verify --replay` says beside its verdict: how far samples are off, and what else may explain it."""

from importlib.metadata import version

from rich.table import Table

from pipeline.replay.replay import Replay
from pipeline.teacher.run import Teacher
from schemas.cache.manifest import CacheManifest


def gaps_table(found: Replay) -> Table:
    """Differences are shares of the size of a row, or of all probability."""
    table = Table(
        "array", "rows", "largest\ndifference", "r.m.s. of\nall rows", "allowed", "of the worst\nsample", "allowed"
    )
    for array in found.arrays:
        total, worst = array.total, array.worst.gap
        numbers = [total.largest, total.found, total.allowed, worst.found, worst.allowed]
        table.add_row(array.path, f"{len(total.row_N):,}", *(f"{number:.2g}" for number in numbers))
    return table


def unless_experts(teacher: Teacher) -> str:
    """How a teacher that chooses experts may be off by more than rounding explains; empty for any other."""
    if not teacher.chooses:
        return ""
    return (
        ", unless the cache was made on a machine of another kind: the teacher chooses experts, and where two are "
        f"about as good, rounding in {teacher.config.dtype} decides; replay it on such a machine"
    )


def other_machine(manifest: CacheManifest) -> str:
    """How a cache may be off in its own batches: the libraries that it was made with, where they are others here."""
    names = ("torch", "transformers")
    made = [(name, manifest.provenance.get(name), version(name)) for name in names]
    others = ", ".join(f"{name} {old} and here {new}" for name, old, new in made if old != new)
    return (
        f"it was made with {others}; " if others else ""
    ) + "a machine of another kind rounds otherwise, too: without --in-batch, that is allowed for"

"""The way out of damage to a cache's shards, in one place.

Who reads a shard knows neither what made the cache nor whether all of it is there. `stillroom repair` looks at both,
drops what `extract` makes again, and says how to go on: `jobs.repair`.
"""

import shlex
from pathlib import Path

from schemas.cache.folders import cache_of


def redo(path: Path) -> str:
    """Of damage to a shard, or to a file below it, whether its cache is complete or not."""
    return f"run {repair(cache_of(path))}: it drops damaged shards that can be made again, and says how"


def without_way_out(problem: str, path: Path) -> str:
    """What is wrong with a shard, without `redo`: for whoever takes that way, or names it once for many."""
    return problem.removesuffix(f"; {redo(path)}")


def repair(cache: Path) -> str:
    """The command, as a shell takes it."""
    return f"`stillroom repair {shlex.quote(str(cache))}`"

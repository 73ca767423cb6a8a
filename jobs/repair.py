"""`stillroom repair`: drop the damaged shards of a cache, and no others, so that `extract` makes them again."""

import shutil
from pathlib import Path

from pipeline.output.resume import locked, unseal
from schemas.cache.checksums import open_manifest
from schemas.cache.sections import list_sections
from schemas.cache.shard import shard_path
from schemas.cache.verify import ProvenShard, verify_added, verify_shards
from schemas.console import say
from schemas.errors import CacheError
from schemas.progress import Progress


def repair_cache(path: Path) -> None:
    """Print what was dropped and why, and how to go on. Every byte is read once; what is whole is not touched.

    Raises CacheError: no cache that was ever finished, its manifest is damaged, another process writes to it, or what
    is damaged cannot be removed.
    """
    manifest, sealed = open_manifest(path)
    total = manifest.units * len(list_sections(path, manifest))
    with locked(path, say), Progress("verifying", "shards", total) as progress:
        damaged = dict[Path, str]()
        for unit, shard in enumerate(verify_shards(path, manifest, sealed)):
            if not isinstance(shard, ProvenShard):
                damaged[shard_path(path, unit)] = str(shard)
            progress.update(unit + 1)
        for number, added in enumerate(verify_added(path, manifest, sealed), manifest.units + 1):
            if added.problem is not None:
                damaged[added.section.shard(added.unit)] = str(added.problem)
            progress.update(number)
        _drop(path, list(damaged))
    if not damaged:
        say(f"{path}: all {total} shards are whole; nothing was dropped. `stillroom verify` checks the rest")
        return
    for problem in damaged.values():
        say(f"dropped: {problem}")
    say(
        f"{path}: {len(damaged)} of {total} shards were dropped, the others are as they were. Run `stillroom "
        "extract` with the cache's config to make them again, byte for byte; until then, nobody can train from it"
    )


def _drop(cache: Path, shards: list[Path]) -> None:
    try:
        if shards:
            unseal(cache)  # first: a cache that lacks a shard must not be taken for a whole one
        for shard in shards:
            if shard.exists():  # that one is missing is damage, too
                shutil.rmtree(shard)
    except OSError as error:
        raise CacheError(
            f"cannot remove {error.filename or cache}: {error.strerror or error}; what was dropped before is gone, and "
            f"`stillroom repair {cache}` goes on"
        ) from error

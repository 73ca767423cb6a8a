"""`stillroom repair`: drop the damaged shards of a cache, and no others, so that `extract` makes them again."""

from pathlib import Path

from pipeline.output.elsewhere import read_begun, working_folder
from pipeline.output.resume import brought, unseal
from schemas.cache.checksums import Checksums, open_manifest
from schemas.cache.manifest import CacheManifest
from schemas.cache.sections import list_sections
from schemas.cache.shard import RECORD, shard_path
from schemas.cache.verify import ProvenShard, verify_added, verify_shards
from schemas.cache.ways_out import redo
from schemas.console import say
from schemas.errors import CacheError, ResourceError, StillroomError, StorageError
from schemas.progress import Progress
from schemas.storage.published import published_at, remove_folder


def repair_cache(path: Path) -> None:
    """Print what was dropped and why, and how to go on. Every byte is read once, where the cache lies, and not from a
    copy; what is whole is not touched.

    Raises CacheError: no cache that was ever finished, its manifest is damaged, another process writes to it, or what
    is damaged cannot be removed. StorageError, ResourceError: a shard cannot be read, which is no damage to it.
    """
    read_begun(path)  # first: what is no cache is left as it is
    with brought(working_folder(path), say) as cache:
        manifest, sealed = open_manifest(cache)
        total = manifest.units * len(list_sections(cache, manifest))
        damaged = _find_damage(cache, manifest, sealed, total)
        _drop(cache, list(damaged))
    if not damaged:
        say(f"{path}: all {total} shards are whole; nothing was dropped. `stillroom verify` checks the rest")
        return
    for problem in damaged.values():
        say(f"dropped: {problem}")
    say(
        f"{path}: {len(damaged)} of {total} shards were dropped, the others are as they were. Run `stillroom "
        "extract` with the cache's config to make them again, byte for byte; until then, nobody can train from it"
    )


def _find_damage(cache: Path, manifest: CacheManifest, sealed: Checksums | None, total: int) -> dict[Path, str]:
    """What is wrong with each shard that is not whole."""
    damaged = dict[Path, str]()
    with Progress("verifying", "shards", total) as progress:
        for unit, shard in enumerate(verify_shards(cache, manifest, sealed)):
            if not isinstance(shard, ProvenShard):
                place = shard_path(cache, unit)
                damaged[place] = _said(shard, place)
            progress.update(unit + 1)
        for number, added in enumerate(verify_added(cache, manifest, sealed), manifest.units + 1):
            if added.problem is not None:
                place = added.section.shard(added.unit)
                damaged[place] = _said(added.problem, place)
            progress.update(number)
    return damaged


def _said(problem: StillroomError, shard: Path) -> str:
    """What is wrong, without the way out that is taken here."""
    if isinstance(problem, StorageError | ResourceError):  # of a network or a full disk
        raise problem
    return str(problem).removesuffix(f"; {redo(shard)}")


def _drop(cache: Path, shards: list[Path]) -> None:
    try:
        if shards:
            unseal(cache)  # first: a cache that lacks a shard must not be taken for a whole one
        for shard in shards:
            if shard.exists() or published_at(shard):  # that one is missing is damage, too
                remove_folder(shard, RECORD)
    except OSError as error:
        raise CacheError(
            f"cannot remove {error.filename or cache}: {error.strerror or error}; what was dropped before is gone, and "
            f"`stillroom repair {cache}` goes on"
        ) from error

"""`stillroom repair`: drop the damaged shards of a cache, and no others, so that `extract` makes them again."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.output.elsewhere import read_begun, working_folder
from pipeline.output.resume import brought, unseal
from pipeline.output.shards import drop_shard, require_damage, require_open, require_readable
from schemas.cache.checksums import Checksums, open_manifest
from schemas.cache.folders import SHARDS
from schemas.cache.hollow import OF_SHARD
from schemas.cache.manifest import INDEX, VERSION, CacheManifest
from schemas.cache.sections import list_sections
from schemas.cache.shard import shard_path
from schemas.cache.verify import ProvenShard, verify_added, verify_shards
from schemas.cache.ways_out import repair, without_way_out
from schemas.console import say
from schemas.errors import CacheError, ResourceError, StillroomError, StorageError
from schemas.progress import Progress
from schemas.storage.objects import list_objects
from schemas.storage.published import published_at


@dataclass(frozen=True)
class _Found:
    """What came of looking at the shards of a cache."""

    total: int  # that it has when it is complete
    there: int
    damaged: dict[Path, str]  # what is wrong with each

    @property
    def to_make(self) -> int:
        """How many were not made yet."""
        return self.total - self.there


def repair_cache(path: Path) -> None:
    """Print what was dropped and why, and how to go on. Every byte is read once, where the cache lies, and not from a
    copy; what is whole is not touched. Of a cache that is not complete, what is not made yet is not damaged.

    Raises CacheError: no cache that was ever begun, its manifest is damaged, another process writes to it, what is
    damaged cannot be removed, or cannot be made again: nothing is dropped then. StorageError, ResourceError: a shard
    cannot be read, which is no damage to it.
    """
    read_begun(path)  # first: what is no cache is left as it is
    with brought(working_folder(path), say) as cache:
        manifest, sealed = open_manifest(cache)
        found = _look(cache, manifest, sealed)
        if found.damaged and (reason := cannot_redo(manifest)) is not None:
            raise CacheError(
                f"{len(found.damaged)} of {found.there} shards are damaged, and none was dropped:\n  "
                + "\n  ".join(found.damaged.values())
                + f"\n{path} {reason}"
            )
        require_readable(found.damaged)
        _drop(cache, list(found.damaged))
    for problem in found.damaged.values():
        say(f"dropped: {problem}")
    say(f"{path}: {_summary(found)}")


def cannot_redo(manifest: CacheManifest) -> str | None:
    """Why no shard of a cache can be made again by itself, and what to do instead; None where `extract` does it."""
    if "imported" in manifest.identity:
        return (
            "was imported, and an import makes all shards at once: move that folder away, and run `stillroom import` "
            "with its config again"
        )
    if manifest.version < VERSION:
        return (
            f"is of format {manifest.version}, which is not written any more: bring the damaged files back from "
            "another copy of it, or extract to another output"
        )
    return None


def _summary(found: _Found) -> str:
    number, left = len(found.damaged), f"{found.to_make} are still to be made" if found.to_make else ""
    go_on = "`stillroom extract` with the cache's config"
    if not number and not left:
        return f"all {found.total} shards are whole; nothing was dropped. `stillroom verify` checks the rest"
    if not number:
        return f"all {found.there} shards that are there are whole; nothing was dropped, and {left}: run {go_on}"
    return (
        f"{number} of {found.there} shards were dropped, the others are as they were"
        + (f", and {left}" if left else "")
        + f". Run {go_on} to make them again, byte for byte; until then, nobody can train from it"
    )


def _look(cache: Path, manifest: CacheManifest, sealed: Checksums | None) -> _Found:
    """Read every shard."""
    damaged, there = dict[Path, str](), 0
    sections = list_sections(cache, manifest)
    for section in sections:
        require_open(section.folder / SHARDS)
    total = manifest.units * len(sections)
    complete, published = (cache / INDEX).exists(), _published(cache)
    with Progress("verifying", "shards", total) as progress:
        for number, (place, problem) in enumerate(_problems(cache, manifest, sealed), 1):
            if complete or os.path.lexists(place) or place in published:
                there += 1
                if problem is not None:
                    damaged[place] = _said(problem, place)
            progress.update(number)
    return _Found(total, there, damaged)


def _published(cache: Path) -> set[Path]:
    """The shards of which anything lies at the URL where the cache is published, if it is: a whole one, or what is left
    of one that was being written or removed."""
    if (url := published_at(cache)) is None:
        return set()
    return {cache / found[1] for name in list_objects(url) if (found := OF_SHARD.match(name))}


def _problems(
    cache: Path, manifest: CacheManifest, sealed: Checksums | None
) -> Iterator[tuple[Path, StillroomError | None]]:
    """Every shard, and what is wrong with it."""
    for unit, shard in enumerate(verify_shards(cache, manifest, sealed)):
        yield shard_path(cache, unit), None if isinstance(shard, ProvenShard) else shard
    for added in verify_added(cache, manifest, sealed):
        yield added.section.shard(added.unit), added.problem


def _said(problem: StillroomError, shard: Path) -> str:
    """What is wrong, without the way out that is taken here."""
    if isinstance(problem, StorageError | ResourceError):  # of a network or a full disk
        raise problem
    require_damage(shard, problem)
    return without_way_out(str(problem), shard)


def _drop(cache: Path, shards: list[Path]) -> None:
    if not shards:
        return
    try:
        unseal(cache)  # first: a cache that lacks a shard must not be taken for a whole one
    except OSError as error:
        raise CacheError(
            f"cannot remove {error.filename or cache}: {error.strerror or error}; nothing was dropped"
        ) from error
    for shard in shards:
        if os.path.lexists(shard) or published_at(shard):  # that one is missing is damage, too
            try:
                drop_shard(shard)
            except CacheError as error:
                raise CacheError(f"{error}; what was dropped before is gone, and {repair(cache)} goes on") from error

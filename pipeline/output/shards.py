"""The shards of a cache that is being made: a unit's samples written as one, the ones that are there, leftovers."""

import errno
import os
from collections.abc import Collection, Iterable
from pathlib import Path

from pipeline.corpus.sample import AnnotatedSample
from schemas.cache.checksums import Checksums
from schemas.cache.folders import ADDED, SHARDS
from schemas.cache.manifest import CacheManifest
from schemas.cache.samples import CachedSample
from schemas.cache.seen_shard import SeenShard, look_at_shard
from schemas.cache.shard import RECORD, shard_path
from schemas.cache.ways_out import without_way_out
from schemas.errors import CacheError, ResourceError, StillroomError
from schemas.storage import atomic as files
from schemas.storage.file_record import ABSENT
from schemas.storage.published import remove_folder

# What the system says of a file that is not there, or is none; Arrow's errors of what a file holds have no number.
OF_DAMAGE = {*ABSENT, errno.EISDIR, errno.EINVAL, None}


def as_cached(sample: AnnotatedSample) -> CachedSample:
    """The sample as a cache holds it."""
    return CachedSample(
        id=sample.id,
        text=sample.text,
        targets=sample.targets,
        truncated=sample.truncated,
        token_ids=sample.token_ids,
        token_offsets=sample.token_offsets,
        token_rows=sample.token_rows,
        words=sample.spans.words,
        noun_phrases=sample.spans.noun_phrases,
        verb_phrases=sample.spans.verb_phrases,
        turns=sample.turns,
        structure=sample.structure,
    )


def check_shards(
    cache: Path, manifest: CacheManifest, sealed: Checksums | None = None
) -> tuple[dict[int, SeenShard], dict[int, str]]:
    """The committed shards of one section by unit, and what is wrong with those that are damaged. Looks at records and
    file sizes. `cache`, `manifest` and `sealed` are those of the section.

    Raises ResourceError: the folder of shards is closed to this user, or a shard cannot be read.
    """
    require_open(cache / SHARDS)
    whole: dict[int, SeenShard] = {}
    damaged: dict[int, str] = {}
    for unit in range(manifest.units):
        shard = shard_path(cache, unit)
        if not os.path.lexists(shard):
            continue
        try:
            known = sealed if sealed is not None and unit < len(sealed.shards) else None
            whole[unit] = look_at_shard(cache, unit, manifest, known)
        except CacheError as error:
            require_damage(shard, error)
            damaged[unit] = str(error)
    return whole, damaged


def require_damage(shard: Path, problem: StillroomError) -> None:
    """Raises ResourceError if the `problem` with a shard is that the machine could not read it: a server of files that
    does not answer, too many files that are open. That tells nothing of the shard."""
    cause: BaseException | None = problem
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__cause__
    if cause is None or cause.errno in OF_DAMAGE:
        return
    require_readable([shard])  # knows what is closed, and says more of it
    raise ResourceError(
        f"{without_way_out(str(problem), shard)}. That is no damage to it. Mend what keeps it from being read, or "
        f"remove {shard} to have it made again, and run the same command again; nothing was dropped"
    )


def require_readable(shards: Iterable[Path]) -> None:
    """Of shards that are to go, because they cannot be read. Does not look behind a link: what lies there never goes.
    Raises ResourceError: this user may not read one, or it, or a file of it, is a link to what is not there, which is
    no damage to it: a disk that is not mounted, or what git-annex and DVC have not fetched."""
    for shard in shards:
        for path in (shard, *(() if shard.is_symlink() else shard.rglob("*"))):
            require_open(path)


def require_open(path: Path) -> None:
    """Of a file or folder, if it is there; a folder must let its files be named, and reached: of what lies in a closed
    one, nothing can be asked. Raises ResourceError: it, or a folder on the way to it, is closed to this user, or a link
    to what is not there."""
    for place in (*reversed(path.parents), path):
        there = os.path.exists(place)  # Path's own raises where a folder on the way is closed
        if os.path.islink(place) and not there:
            raise ResourceError(
                f"{place} is a link to {os.readlink(place)}, which is not there, or closed to this user. Bring that "
                "place back, or remove the link, and run the same command again; nothing was dropped"
            )
        wanted = (os.R_OK if place == path else 0) | (os.X_OK if os.path.isdir(place) else 0)
        if there and not os.access(place, wanted, effective_ids=os.access in os.supports_effective_ids):
            raise ResourceError(
                f"{place} is closed to this user, which is no damage to it. Open it (chmod, chown) and run the same "
                "command again; nothing was dropped"
            )


def drop_shard(shard: Path) -> None:
    """Remove what lies there of a shard, and what of it is published. Raises CacheError that names the shard."""
    try:
        remove_folder(shard, RECORD)
    except OSError as error:  # whose file may be named without its folder
        raise CacheError(f"cannot remove {shard}: {error.strerror or error}") from error


def remove_temporaries(cache: Path, owners: Collection[str] = ()) -> None:
    """Remove what killed writers left beside shards and files, as `schemas.storage.atomic` does."""
    for parent in (cache, cache / SHARDS, *cache.glob(f"{ADDED}/*"), *cache.glob(f"{ADDED}/*/{SHARDS}")):
        files.remove_temporaries(parent, owners)

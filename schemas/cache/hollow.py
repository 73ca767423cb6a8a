"""Shards of a cache that is published under a URL, as far as its writer needs them here.

shard.json is whole, and so is samples.arrow once it is asked for, of which the index is made. Of all other files only
the sizes are here, except while a shard is proven: they take no room, and whoever looks at a shard sees whether
anything is missing or cut.
"""

import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from schemas.cache.folders import ADDED, SHARDS
from schemas.cache.seen_shard import SeenShard
from schemas.cache.shard import RECORD, SAMPLES, shard_path
from schemas.errors import CacheError
from schemas.storage.atomic import disk_full, folder_beside
from schemas.storage.blocks import check_blocks
from schemas.storage.file_record import files_below
from schemas.storage.objects import Listed, fetch_objects, list_objects, read_objects
from schemas.storage.published import hollow, published_at

T = TypeVar("T")
OF_SHARD = re.compile(rf"((?:{ADDED}/[0-9]+/)?{SHARDS}/[0-9]+)/(.+)")  # below a cache: the shard, a file of it
AT_ONCE = 64  # shards, whose records are held in memory


def bring_shard(cache: Path, unit: int) -> None:
    """Let a shard of the section `cache` lie here if it is published. Raises StorageError."""
    url, shard = published_at(cache), shard_path(cache, unit)
    if url is not None and not shard.exists():
        listed = list_objects(f"{url}/{SHARDS}/{shard.name}")
        bring_shards(cache, {f"{SHARDS}/{shard.name}/{name}": about for name, about in listed.items()})


def bring_shards(cache: Path, listed: Mapping[str, Listed]) -> None:
    """Let all shards lie here that are `listed` among what is published of the cache, and complete.

    Takes a request for each. Raises StorageError.
    """
    url = published_at(cache)
    files: dict[str, list[str]] = {}
    for name in listed:
        if found := OF_SHARD.match(name):
            files.setdefault(found[1], []).append(found[2])
    missing = [shard for shard, names in files.items() if RECORD in names and not (cache / shard).exists()]
    for some in _batches(missing):
        records = read_objects(f"{url}/{shard}/{RECORD}" for shard in some)
        for shard, record in zip(some, records, strict=True):
            with folder_beside(cache / shard) as beside:
                for name in files[shard]:
                    hollow(beside / name, listed[f"{shard}/{name}"].bytes or 0)
                (beside / RECORD).write_bytes(record)
                os.rename(beside, cache / shard)


@contextmanager
def whole_shard(cache: Path, unit: int, names: Collection[str] | None = None) -> Iterator[None]:
    """All files of a shard, or those with these `names`, are whole here meanwhile, for one thread. Does nothing for a
    cache that is published nowhere.

    Raises StorageError, ResourceError; what is damaged where it comes from is told by who reads it.
    """
    shard = shard_path(cache, unit)
    files = {} if (url := published_at(shard)) is None else files_below(shard, {RECORD})
    wanted = {name: path for name, path in files.items() if names is None or name in names}
    sizes = {path: path.stat().st_size for path in wanted.values()}
    try:
        # What is missing stays empty, which no checksum fits.
        with disk_full(shard.name, cache), suppress(FileNotFoundError):
            fetch_objects({f"{url}/{name}": path for name, path in wanted.items()})
        yield
    finally:
        for path, size in sizes.items():
            path.unlink(missing_ok=True)  # first: whoever has mapped it keeps what it maps
            hollow(path, size)


def bring_samples(cache: Path, shards: Mapping[int, SeenShard]) -> None:
    """Let samples.arrow of all `shards` be whole here. Does nothing for a cache that is published nowhere.

    Raises StorageError; what is damaged where it comes from is told by who reads it.
    """
    url = published_at(cache)
    if url is None:
        return
    for some in _batches([unit for unit, shard in shards.items() if not _is_whole(cache, unit, shard)]):
        places = [shard_path(cache, unit) / SAMPLES for unit in some]
        fetch_objects({f"{url}/{path.relative_to(cache).as_posix()}": path for path in places})


def _is_whole(cache: Path, unit: int, shard: SeenShard) -> bool:
    try:
        path = shard_path(cache, unit)
        check_blocks(path / SAMPLES, shard.texts(path), "")
    except CacheError:
        return False
    return True


def _batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for first in range(0, len(items), AT_ONCE):
        yield items[first : first + AT_ONCE]

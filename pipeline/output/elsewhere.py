"""An output under a URL: made in a folder of this machine, which begins as what lies at the URL and ends with the
extraction. Whatever is written or removed there is published when it is done.
"""

import hashlib
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from schemas.cache.checksums import CHECKSUMS, AddedChecksums, Checksums
from schemas.cache.codec_files import CODEC_FOLDER
from schemas.cache.folders import ADDED, SHARDS
from schemas.cache.hollow import OF_SHARD, bring_shards
from schemas.cache.manifest import INDEX, MANIFEST, TEACHER, CacheManifest, read_manifest
from schemas.cache.recorded_folder import FILES, WEIGHTS
from schemas.cache.sections import Section, list_sections
from schemas.cache.shard import RECORD, shard_path
from schemas.cache.totals import ShardTotals
from schemas.errors import CacheError, StillroomError
from schemas.shown import listed as as_list
from schemas.storage.lease import acquire_lease
from schemas.storage.objects import Listed, fetch_objects, list_objects, read_object
from schemas.storage.published import hollow, publish_below, published_at, seen_apart
from schemas.storage.record import parse_record
from schemas.storage.remote import url_of
from schemas.storage.written_objects import put_file, remove_objects

LEASE = ".writer"
LOG = "extraction.jsonl"
# Below a cache: a folder that is complete once its files.json is there, and a file of it.
OF_FOLDER = re.compile(rf"({TEACHER}|(?:{ADDED}/[0-9]+/)?{CODEC_FOLDER})/.+")


def working_folder(output: Path) -> Path:
    """The absolute folder in which the cache `output` is made: itself, or that whose files are published at its URL."""
    url = url_of(output)
    return output.absolute() if url is None else publish_below(url)


def read_begun(output: Path) -> CacheManifest:
    """cache.json of `output`, as it is now. Raises CacheError as `read_manifest` does, StorageError."""
    url = url_of(output)
    if url is None:
        return read_manifest(output)
    try:
        content = read_object(f"{url}/{MANIFEST}")
    except FileNotFoundError:
        raise CacheError(f"{output} is not a stillroom cache: there is no {MANIFEST}") from None
    return parse_record(content, CacheManifest, output / MANIFEST, CacheError)


def find_published(cache: Path, manifest: CacheManifest) -> ShardTotals | None:
    """What a complete cache holds that is published of `cache` and was made for `manifest`; None if there is none.

    It is told by its seal and one listing: all shards are there, and have as many bytes as the seal says. A cache whose
    seal is of before there were totals is looked at shard by shard instead. Raises StorageError.
    """
    url = published_at(cache)
    if url is None:
        return None
    try:
        content, sealing = (read_object(f"{url}/{name}") for name in (MANIFEST, CHECKSUMS))
        found = parse_record(content, CacheManifest, cache / MANIFEST, CacheError)
        seal = parse_record(sealing, Checksums, cache / CHECKSUMS, CacheError)
    except (FileNotFoundError, CacheError):  # the latter is told by who looks closer
        return None
    if found.fingerprint != manifest.fingerprint or hashlib.sha256(content).hexdigest() != seal.manifest.sha256:
        return None
    return seal.totals if _is_whole(list_objects(url), seal, manifest.units) else None


def _is_whole(there: Mapping[str, Listed], seal: Checksums, units: int) -> bool:
    wanted = [f"{TEACHER}/{FILES}"] if seal.teacher else []
    sections: list[Checksums | AddedChecksums] = [seal, *seal.added]
    for number, section in enumerate(sections):
        below = Path(ADDED, str(number)) if number else Path()
        wanted += [f"{shard_path(below, unit).as_posix()}/{RECORD}" for unit in range(units)]
        wanted += [(below / CODEC_FOLDER / FILES).as_posix()] if section.codecs else []
    files = {name: found[2] for name in there if (found := OF_SHARD.match(name))}
    size = sum(there[name].bytes or 0 for name, file in files.items() if file != RECORD)
    index = there.get(INDEX)
    return (
        all(name in there for name in wanted)
        and index is not None
        and index.bytes == seal.index.bytes
        and seal.totals is not None
        and size == seal.totals.bytes
    )


@contextmanager
def leased(cache: Path, busy: Callable[[str], StillroomError], say: Callable[[str], None]) -> Iterator[None]:
    """Nobody else writes to where `cache` is published. At the end its folder here is emptied, but for hidden files.

    Raises what `busy` makes, StorageError.
    """
    url = published_at(cache)
    if url is None:
        yield
        return
    lease = acquire_lease(f"{url}/{LEASE}", busy, say)
    try:
        yield
    finally:
        clear(cache)
        lease.release()


def bring_small(cache: Path) -> Mapping[str, Listed]:
    """Let the working folder hold what is published of the cache, but for its shards; returns all that is published.

    Does nothing for a cache that is published nowhere. Raises CacheError: something else lies there; StorageError.
    """
    url = published_at(cache)
    if url is None:
        return {}
    clear(cache)
    there = _bring_small(cache, url)
    if MANIFEST not in there and (strangers := [name for name in there if name != LOG]):
        raise CacheError(
            f"the output {cache} is not a stillroom cache and not empty (it holds {as_list(strangers[:5])}); "
            "name another place"
        )
    return there


@contextmanager
def seen_from_outside(output: Path, weights: bool = True) -> Iterator[Path]:
    """A folder in which the cache `output` can be looked at and nothing is written, whoever works at it: itself, or for
    a URL one that holds its small files, the records of its shards, and of all else the sizes; of teacher/, too, but
    for its `weights` where these are not wanted. Raises StorageError."""
    if (url := url_of(output)) is None:
        yield output.absolute()
        return
    with seen_apart(url) as folder:
        bring_shards(folder, _bring_small(folder, url, weights))
        yield folder


def _bring_small(folder: Path, url: str, weights: bool = True) -> Mapping[str, Listed]:
    (folder / SHARDS).mkdir(parents=True)
    there = {name: about for name, about in list_objects(url).items() if not name.startswith(LEASE)}
    wanted = [name for name in there if name in (MANIFEST, CHECKSUMS, INDEX, LOG) or _is_of_folder(name, there)]
    sizes = [name for name in wanted if not weights and name.startswith(f"{TEACHER}/") and name.endswith(WEIGHTS)]
    fetch_objects({f"{url}/{name}": folder / name for name in wanted if name not in sizes})
    for name in sizes:
        hollow(folder / name, there[name].bytes or 0)
    return there


def _is_of_folder(name: str, there: Mapping[str, Listed]) -> bool:
    """Whether it is of a teacher/ or codecs/ that is complete: one of an early version has no files.json."""
    found = OF_FOLDER.match(name)
    return found is not None and (f"{found[1]}/{FILES}" in there or INDEX in there)


def bring_folders(cache: Path, manifest: CacheManifest) -> None:
    """Let teacher/ and all codecs/ lie here if a worker of another machine has published them. Raises StorageError."""
    url = published_at(cache)
    for folder in (TEACHER, *(_codecs_of(section) for section in list_sections(Path(), manifest))) if url else ():
        if not (cache / folder).exists():
            there = list_objects(f"{url}/{folder}")
            if FILES in there:
                fetch_objects({f"{url}/{folder}/{name}": cache / folder / name for name in there})


def _codecs_of(section: Section) -> str:
    return (section.folder / CODEC_FOLDER).as_posix()


def join_output(url: str) -> Path:
    """The working folder of a worker, which may be the driver's, and which holds cache.json. Raises StorageError."""
    cache = publish_below(url)
    if not (cache / MANIFEST).exists():
        with suppress(FileNotFoundError):  # told by who reads it
            fetch_objects({f"{url}/{MANIFEST}": cache / MANIFEST})
    return cache


def publish_log(cache: Path) -> None:
    """Publish the log as it is by now."""
    url = published_at(cache)
    if url is not None and (cache / LOG).exists():
        put_file(cache / LOG, f"{url}/{LOG}")


def discard(cache: Path) -> None:
    """Remove all that is published of a cache but the lease. Its folder here is for others to remove."""
    url = published_at(cache)
    if url is not None:
        remove_objects(f"{url}/{name}" for name in list_objects(url) if not name.startswith(LEASE))


def clear(cache: Path) -> None:
    """Remove what lies in the working folder, but for hidden files: a lock is one."""
    for path in cache.glob("[!.]*"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()

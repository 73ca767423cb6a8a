"""A cache that lies under a URL, as its copy on this machine: its small files, and those shards that were touched.

The file that seals it is read anew whenever the cache is opened, and says which version of every other is wanted. So a
copy of what the cache was before is never taken for what it is now, and nothing is kept that lacks its checksum.
"""

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from schemas.cache.codec_files import CODEC_FILES
from schemas.cache.folders import ADDED, SHARDS
from schemas.cache.manifest import INDEX, MANIFEST, CacheManifest
from schemas.cache.recorded_folder import FILES, RecordedFolder
from schemas.cache.shard import RECORD, ShardRecord, read_shard_content, shard_path
from schemas.cache.teacher_files import TEACHER_FILES
from schemas.cache.ways_out import redo
from schemas.errors import CacheError
from schemas.shown import quoted
from schemas.storage.blocks import BlockedFile, check_blocks
from schemas.storage.copies import Made, Thing, open_copies
from schemas.storage.file_record import FileRecord, check_file
from schemas.storage.objects import fetch_objects, list_objects, read_object, read_objects
from schemas.storage.record import parse_record
from schemas.storage.remote import url_of


class SectionSeal(Protocol):
    """What the file that seals a cache says of the arrays that came together."""

    @property
    def codecs(self) -> FileRecord | None: ...  # noqa: D102
    @property
    def shards(self) -> Sequence[str]: ...  # noqa: D102


class Seal(SectionSeal, Protocol):
    """What it says of all other files."""

    @property
    def manifest(self) -> FileRecord: ...  # noqa: D102
    @property
    def index(self) -> FileRecord: ...  # noqa: D102
    @property
    def teacher(self) -> FileRecord | None: ...  # noqa: D102
    @property
    def added(self) -> Sequence[SectionSeal]: ...  # noqa: D102


@dataclass(frozen=True)
class _CopiedCache:
    """A cache, or the folder of arrays that were added to it, as it was when it was opened."""

    path: Path  # of the copy
    url: str
    seal: SectionSeal

    def require_shard(self, unit: int) -> None:
        """Let a shard lie here."""
        shard, sha256 = shard_path(self.path, unit), self.seal.shards[unit]

        def make() -> Made:
            content = self._read(shard / RECORD, sha256, redo(shard))
            record = parse_record(content, ShardRecord, shard / RECORD, CacheError)
            return self._folder(shard, RECORD, content, record.files, redo(shard))

        open_copies().use(Thing(shard, sha256, make))

    def require_small(self, seal: Seal, sealing: str, content: bytes) -> None:
        """Let all files lie here but the shards', and codecs of arrays that were added. `content` is that of the file
        `sealing`."""
        copies = open_copies()
        made = Made(len(content), lambda target: _write(target, content))
        copies.use(Thing(self.path / sealing, hashlib.sha256(content).hexdigest(), lambda: made, stays=True))
        for name, record in ((MANIFEST, seal.manifest), (INDEX, seal.index)):
            copies.use(self._file(name, record))
        if seal.teacher is not None:
            copies.use(self._recorded(TEACHER_FILES, seal.teacher))
        self.require_codecs()

    def require_codecs(self) -> None:
        """Let codecs/ lie here, if there are some."""
        if self.seal.codecs is not None:
            open_copies().use(self._recorded(CODEC_FILES, self.seal.codecs))

    def read_records(self, shards: Sequence[Path]) -> list[bytes]:
        """What shard.json of each of `shards` holds."""
        try:
            return read_objects(self._url(shard / RECORD) for shard in shards)
        except FileNotFoundError as error:
            raise CacheError(f"{self.path}: a shard is missing ({error}); `stillroom verify` says which") from error

    def _file(self, name: str, record: FileRecord) -> Thing:
        def fetch(target: Path) -> None:
            self._fetch(self.path, {name: record}, target.parent, self._changed())

        return Thing(self.path / name, record.sha256, lambda: Made(record.bytes, fetch), stays=True)

    def _recorded(self, folder: RecordedFolder, record: FileRecord) -> Thing:
        place = self.path / folder.name

        def make() -> Made:
            content = self._read(place / FILES, record.sha256, self._changed())
            files = parse_record(content, folder.record, place / FILES, CacheError).files
            return self._folder(place, FILES, content, files, self._changed())

        return Thing(place, record.sha256, make, stays=True)

    def _folder(self, place: Path, name: str, content: bytes, files: Mapping[str, FileRecord], way_out: str) -> Made:
        """A folder of `files` and of the record `name` that lists them."""
        _require_inside(files, place / name)

        def fetch(target: Path) -> None:
            target.mkdir()
            self._fetch(place, files, target, way_out)
            _write(target / name, content)

        return Made(sum(file.bytes for file in files.values()) + len(content), fetch)

    def _read(self, path: Path, sha256: str, way_out: str) -> bytes:
        try:
            content = read_object(self._url(path))
        except FileNotFoundError:
            raise CacheError(f"{path} is missing; {way_out}") from None
        if hashlib.sha256(content).hexdigest() != sha256:
            raise CacheError(f"{path} does not have its checksum; {way_out}")
        return content

    def _fetch(self, place: Path, files: Mapping[str, FileRecord], target: Path, way_out: str) -> None:
        """Copy `files` of the folder `place` into `target`. Raises CacheError for one that is not as recorded."""
        with suppress(FileNotFoundError):  # the check says which
            fetch_objects({self._url(place / name): target / name for name in files})
        try:
            for name, record in files.items():
                if isinstance(record, BlockedFile):
                    check_blocks(target / name, record, way_out)
                else:
                    check_file(target / name, record, way_out)
        except CacheError as error:
            raise CacheError(str(error).replace(str(target), str(place))) from error

    def _url(self, path: Path) -> str:
        return f"{self.url}/{path.relative_to(self.path).as_posix()}"

    def _changed(self) -> str:
        return f"{self.url} is damaged, or was written anew in this moment: run the same command again"


_opened: dict[Path, _CopiedCache] = {}


def copy_small_files(cache: Path, sealing: str, read_seal: Callable[[bytes], Seal]) -> None:
    """Where `cache` is the copy of a URL, let all lie there but the shards, as they are at the URL now.

    `sealing` is the name of the file that `read_seal` reads. Raises CacheError: no cache, not complete, damaged;
    StorageError.
    """
    url = url_of(cache)
    if url is None:
        return
    try:
        content = read_object(f"{url}/{sealing}")
    except FileNotFoundError:
        raise _not_sealed(cache, url, sealing) from None
    seal = read_seal(content)
    copied = _CopiedCache(cache, url, seal)
    copied.require_small(seal, sealing, content)
    _opened[cache] = copied
    for number, added in enumerate(seal.added, 1):
        folder = f"{ADDED}/{number}"
        section = _opened[cache / folder] = _CopiedCache(cache / folder, f"{url}/{folder}", added)
        section.require_codecs()


def require_shard(cache: Path, unit: int) -> None:
    """Let a shard of `cache`, which may be the folder of arrays that were added to one, lie here, and stay until room
    is needed. Costs nothing where the cache is a local one.

    Raises CacheError: it is damaged or missing at its source; StorageError; ResourceError: the disk is full.
    """
    if (copied := _opened.get(cache)) is not None:
        copied.require_shard(unit)


def read_shard_records(cache: Path, units: Sequence[int]) -> list[bytes]:
    """What shard.json of each unit holds; under a URL it is read there, and no shard is copied for it.

    Raises CacheError: one is missing; StorageError.
    """
    places = [shard_path(cache, unit) for unit in units]
    if (copied := _opened.get(cache)) is None:
        return list(map(read_shard_content, places))
    return copied.read_records(places)


def count_let_go(cache: Path) -> int:
    """How often shards that were required may have been removed: if more often than before, their files must be closed,
    and their shards required again before others of their files are opened."""
    return open_copies().let_go if cache in _opened else 0


def _not_sealed(cache: Path, url: str, sealing: str) -> CacheError:
    try:
        manifest = parse_record(read_object(f"{url}/{MANIFEST}"), CacheManifest, cache / MANIFEST, CacheError)
    except FileNotFoundError:
        return CacheError(f"{cache} is not a stillroom cache: there is no {MANIFEST}")
    found = list_objects(url)
    if INDEX in found:
        return CacheError(f"{cache} has no {sealing}, which a copy is checked by: `stillroom reindex {url}` makes it")
    done = sum(name.startswith(f"{SHARDS}/") and name.endswith(f"/{RECORD}") for name in found)
    return CacheError(
        f"{cache} is not complete: {done} of {manifest.units} shards are there; run `stillroom extract` again, it does "
        "only what is missing"
    )


def _require_inside(names: Collection[str], record: Path) -> None:
    """Raises CacheError if a record names what does not lie beside it: that would be written anywhere."""
    for name in names:
        parts = PurePosixPath(name).parts
        if not parts or PurePosixPath(name).is_absolute() or ".." in parts or "\0" in name or name == record.name:
            raise CacheError(f"{record} names {quoted(name)}, which is no file of its folder; nothing of it is copied")


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)

"""Opening the output folder: whose it is, what is done already, and that nobody else is writing to it."""

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from pipeline.output import elsewhere
from pipeline.output.codecs import needs_calibration, require_same_codecs
from pipeline.output.shards import check_shards, drop_shard, remove_temporaries, require_readable
from pipeline.request.extension import may_extend
from schemas.cache.checksums import CHECKSUMS, Checksums, read_checksums
from schemas.cache.codec_files import CODEC_FILES, CodecFiles
from schemas.cache.folders import SHARDS
from schemas.cache.hollow import bring_shards
from schemas.cache.manifest import INDEX, MANIFEST, TEACHER, CacheManifest, read_manifest
from schemas.cache.sections import Section, list_sections
from schemas.cache.seen_shard import Seen, SeenShard, whole_units
from schemas.cache.teacher import QUANTISERS
from schemas.cache.ways_out import without_way_out
from schemas.cache.writer import write_manifest
from schemas.errors import CacheError, StillroomError
from schemas.storage.file_record import describe_file
from schemas.storage.fingerprint import differences
from schemas.storage.lock import STALE_SECONDS, Lock, acquire
from schemas.storage.objects import Listed
from schemas.storage.published import published_at, remove_file, remove_folder
from schemas.storage.regular import open_to_append
from schemas.storage.writable import require_apart, require_writable

ROUNDING = ("tokenizers", "torch", "transformers", *QUANTISERS)  # another version of these may cut or round otherwise
LOG = elsewhere.LOG
LOCK = elsewhere.LEASE


@dataclass(frozen=True)
class Output:
    """A cache folder that this process alone writes to, and the shards that were in it, by section and unit."""

    cache: Path
    seen: Seen  # every shard that was there
    log_file: TextIO
    is_new: bool  # there was no such folder
    extends: bool = False  # cache.json is still that of before it is extended

    @property
    def done(self) -> dict[int, SeenShard]:
        """The units of which nothing is missing, with the bytes of all their shards."""
        return whole_units(self.seen)

    def log(self, event: str, **values: Any) -> None:
        """One line of extraction.jsonl. Times go there, because shards must not depend on them."""
        self.log_file.write(json.dumps({"event": event, "at": round(time.time(), 3), **values}) + "\n")
        self.log_file.flush()

    def adopt(self, manifest: CacheManifest) -> None:
        """Every shard is there: from now on an extended cache is the longer one, which is to be sealed."""
        if self.extends:
            unseal(self.cache)
            write_manifest(self.cache, manifest)

    def discard(self) -> None:
        """Remove the folder if it is new and holds no shard: nothing is to be gone on from."""
        if self.is_new and not any((self.cache / SHARDS).glob("[!.]*")):
            elsewhere.discard(self.cache)
            shutil.rmtree(self.cache)


def find_complete(cache: Path, manifest: CacheManifest) -> dict[int, SeenShard] | None:
    """All shards of a complete and undamaged cache, or None if there is something to do. Changes nothing.

    Raises CacheError if the folder holds something else, or another request's cache, with the fields that differ.
    """
    found = _find_manifest(cache, manifest)
    if found is None or found.fingerprint != manifest.fingerprint:
        return None
    sealed = read_checksums(cache, manifest)
    # The shards come last: those of a cache that is not complete are looked at once, when it is opened for writing.
    sections = list_sections(cache, manifest)
    prepared = not any(needs_calibration(section.folder, section.manifest) for section in sections)
    complete = (cache / TEACHER).is_dir() and prepared and _is_indexed(cache, sealed)
    if not complete or _alterations(cache, found, manifest, sealed):
        return None
    whole = whole_units({section.number: _look(section, sealed)[0] for section in sections})
    return whole if len(whole) == manifest.units else None


def look_at_output(cache: Path, manifest: CacheManifest) -> Seen:
    """The shards that are there and whole, by section and unit, whether the cache is complete or not. Changes nothing.

    Raises CacheError as `find_complete` does.
    """
    found, sections = _find_manifest(cache, manifest), list_sections(cache, manifest)
    if found is None:
        return {section.number: {} for section in sections}
    sealed = read_checksums(cache, found)
    return {
        section.number: {} if section in _strangers(sections, found) else _look(section, sealed)[0]
        for section in sections
    }


@contextmanager
def open_output(cache: Path, manifest: CacheManifest, say: Callable[[str], None]) -> Iterator[Output]:
    """Make or reopen `cache` for writing. Leftovers of killed writers go; so does a damaged shard, which is said.

    A request that fails before its first shard leaves no folder behind, if there was none before.

    Raises RunError if nothing can be written there; CacheError as `find_complete` does, if another extraction is at
    work in the folder, and if its shards were written under other versions of the libraries than would write the rest.
    """
    require_writable(cache)
    require_apart(cache)
    is_new = not cache.exists()
    with locked(cache, say) as lock, _brought(cache) as there, _open_log(cache) as log_file:
        is_new = not there if published_at(cache) else is_new
        found = _find_manifest(cache, manifest)  # asked again under the lock
        bring_shards(cache, there)
        sealed = None if found is None else read_checksums(cache, found)
        extends = found is not None and found.fingerprint != manifest.fingerprint
        sections = list_sections(cache, manifest)
        for section in [] if found is None else _strangers(sections, found):
            say(f"{section.folder} was left by another extension, which was not finished, and is removed")
            remove_folder(section.folder)
        looked = {section.number: ({}, {}) if found is None else _look(section, sealed) for section in sections}
        seen = {number: whole for number, (whole, _) in looked.items()}
        is_whole = all(len(whole) == manifest.units for whole in seen.values())
        if found is not None and any(seen.values()) and not is_whole:
            _require_versions(cache, found, manifest)
        if found is not None and not extends and (altered := _alterations(cache, found, manifest, sealed)):
            say(f"{cache / MANIFEST} was altered and is written anew: {altered}")
            write_manifest(cache, manifest.model_copy(update={"provenance": found.provenance}))
            unseal(cache)
        if (
            not any(seen.values()) and not extends
        ):  # also where the first start, under whatever versions, wrote no shard
            write_manifest(cache, manifest)
        require_readable(section.shard(unit) for section in sections for unit in looked[section.number][1])
        remove_temporaries(cache, lock.owners)
        for section in sections:
            for unit, problem in looked[section.number][1].items():
                shard = section.shard(unit)
                say(f"shard {unit} is damaged and will be redone: {without_way_out(problem, shard)}")
                drop_shard(shard)
        if not is_whole and not extends:
            unseal(cache)
        output = Output(cache, seen, log_file, is_new, extends)
        try:
            yield output
        except StillroomError:
            output.discard()
            raise


def _look(section: Section, sealed: Checksums | None) -> tuple[dict[int, SeenShard], dict[int, str]]:
    """The shards of a section, and what is wrong with those that are damaged. Raises CacheError for its codecs."""
    known = sealed is not None and section.number <= len(sealed.added)
    found = check_shards(section.folder, section.manifest, sealed.of(section.number) if sealed and known else None)
    require_same_codecs(section.folder, section.manifest, found[0])
    return found


def _strangers(sections: Sequence[Section], found: CacheManifest) -> list[Section]:
    """Those of which an extension by other arrays, or of other samples, has left something, and was never finished."""
    left = list[Section]()
    for section in sections[len(found.by_arrival()) :]:
        record = CODEC_FILES.read_record(section.folder)
        if isinstance(record, CodecFiles) and record.fingerprint != section.manifest.fingerprint_of(0):
            left.append(section)
    return left


_EXTEND = (
    "where its samples stand at the beginning of the corpus, `stillroom extend` adds what it lacks, and keeps what it "
    "holds; otherwise\n"
)


def _find_manifest(cache: Path, manifest: CacheManifest) -> CacheManifest | None:
    """cache.json, if it is there; raises CacheError if it, or anything else in the folder, is not this request's."""
    if cache.exists() and not cache.is_dir():
        raise CacheError(f"the output {cache} is a file; name a folder")
    if not (cache / MANIFEST).exists():
        # A start that was killed before cache.json leaves a log, an empty shards/ and hidden temporaries.
        strangers = [p.name for p in sorted(cache.glob("[!.]*")) if p.name not in (LOG, SHARDS)]
        strangers += [f"{SHARDS}/{p.name}" for p in sorted((cache / SHARDS).glob("[!.]*"))]
        if strangers:
            raise CacheError(
                f"the output {cache} is not a stillroom cache and not empty (it holds {', '.join(strangers[:5])}); "
                "name another folder"
            )
        return None
    found = read_manifest(cache)
    if found.fingerprint not in (manifest.fingerprint, *(part.fingerprint for part in manifest.parts[-1:])):
        lines = "\n  ".join(differences(found.identity, manifest.identity))
        raise CacheError(
            f"{cache} is the cache of another request:\n  {lines}\n{_EXTEND if may_extend(found, manifest) else ''}"
            "name another output, or delete that folder to replace it"
        )
    return found


def _is_indexed(cache: Path, sealed: Checksums | None) -> bool:
    """Returns whether the index is there and, as far as can be told, the one that was written."""
    path = cache / INDEX
    return path.is_file() and (sealed is None or describe_file(path) == sealed.index)


def _alterations(cache: Path, found: CacheManifest, wanted: CacheManifest, sealed: Checksums | None) -> str:
    """Returns what in cache.json is neither what this request writes nor information; empty if nothing is."""
    left, right = (_without_information(manifest) for manifest in (found, wanted))
    if altered := "; ".join(differences(left, right)):
        return altered
    return "it does not have its checksum" if sealed and describe_file(cache / MANIFEST) != sealed.manifest else ""


def _without_information(manifest: CacheManifest) -> dict[str, Any]:
    """As it is written, which leaves out what says nothing in this cache."""
    written: dict[str, Any] = json.loads(manifest.to_json())
    for section, names in (("teacher", ("model",)), ("corpus", ("empty", "refused", "repeated"))):
        written[section] = {name: value for name, value in written[section].items() if name not in names}
    return {name: value for name, value in written.items() if name not in ("identity", "provenance")}


def unseal(cache: Path) -> None:
    """Shards are to be written: until they are, the cache is not complete."""
    for name in (INDEX, CHECKSUMS):
        remove_file(cache / name)


def _require_versions(cache: Path, found: CacheManifest, manifest: CacheManifest) -> None:
    """A refusal rather than a warning: what is mixed cannot be told apart again, and to go on is one `pip install`."""
    versions = [(name, found.provenance.get(name), manifest.provenance.get(name)) for name in ROUNDING]
    if other := [(name, old, new) for name, old, new in versions if old is not None and old != new]:
        raise CacheError(
            f"{cache} was begun with {', '.join(f'{name} {old}' for name, old, _ in other)}; here is "
            f"{', '.join(f'{name} {new}' for name, _, new in other)}, which may round or tokenize otherwise, and one "
            "cache would hold both; name a new output, or go on with the old versions: "
            f"pip install {' '.join(f'{name}=={old}' for name, old, _ in other)}"
        )


@contextmanager
def locked(cache: Path, say: Callable[[str], None]) -> Iterator[Lock]:
    """Nobody else writes to `cache`, which is made if it is not there. What killed workers left goes at the end.

    Raises CacheError: another process writes there, or the folder cannot be made or written to.
    """
    try:
        (cache / SHARDS).mkdir(parents=True, exist_ok=True)
        lock = acquire(cache / LOCK, lambda holder: _busy(cache, holder), say)
    except FileExistsError as error:
        raise CacheError(
            f"cannot write to the output folder {cache}: {error.filename} is a file, or a link to what is not there. "
            "Bring that place back, or move it away, and run the same command again"
        ) from error
    except OSError as error:
        raise CacheError(f"cannot write to the output folder {cache}: {error.strerror or error}") from error
    try:
        with elsewhere.leased(cache, lambda holder: _busy(cache, holder), say):
            yield lock
    finally:
        with suppress(OSError):  # a worker that is still dying may be writing
            remove_temporaries(cache, lock.owners)
        lock.release()


def _busy(cache: Path, holder: str) -> CacheError:
    return CacheError(
        f"another extraction is writing to {cache}: {holder}; wait until it is done (if its machine is gone, its lock "
        f"is taken over {STALE_SECONDS:.0f} s after it was last seen)"
    )


@contextmanager
def brought(cache: Path, say: Callable[[str], None]) -> Iterator[Path]:
    """`locked`, of a cache that is there. If it is published, its small files lie here meanwhile, its shards as
    `bring_shards` has them, and what is written or removed here is at its URL, too. Raises StorageError as well."""
    with locked(cache, say):
        bring_shards(cache, elsewhere.bring_small(cache))
        yield cache


@contextmanager
def _brought(cache: Path) -> Iterator[Mapping[str, Listed]]:
    """What is published of the cache, of which all but the shards lies here; the log is published at the end."""
    there = elsewhere.bring_small(cache)
    try:
        yield there
    finally:
        elsewhere.publish_log(cache)


def _open_log(cache: Path) -> TextIO:
    try:
        return open_to_append(cache / LOG)
    except OSError as error:
        raise CacheError(f"cannot write to {cache / LOG}: {error.strerror or error}") from error

"""Several caches of one contract, read as one: their samples one after the other, in the order of the caches.

A contract is all that says what a state is: the teacher and how it was run, the arrays and how they were made, the
annotator, the rows, how conversations were rendered. Corpora, units and calibrations may differ.
"""

import logging
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from schemas.cache.arrays import ArrayRecord
from schemas.cache.codec_files import CODEC_FILES, CODEC_FOLDER, codec_file
from schemas.cache.manifest import CacheManifest
from schemas.cache.readable import ReadableCache
from schemas.cache.reader import Cache
from schemas.cache.samples import CachedSample
from schemas.cache.sections import array_folders
from schemas.errors import CacheError
from schemas.shown import quoted
from schemas.storage.file_record import FileRecord
from schemas.storage.fingerprint import differences

# Fields of an identity that say nothing of what a state is, or that concern the teacher's files alone.
NOT_CONTRACT = {"format", "corpus", "batching", "spans", "keep_embeddings", "parts"}
NOT_CONTRACT_OF_CONVERSATIONS = {"layout", "field", "tools"}  # where records held them
MOST_NAMED = 3

logger = logging.getLogger(__name__)


class CacheUnion(ReadableCache):
    """A sample that several caches hold is taken from the first of them alone."""

    def __init__(self, caches: Sequence[Cache]):
        """Raises CacheError: a cache is named twice, two are not of one contract, or an id stands for two samples."""
        self.caches = tuple(caches)
        _require_one_contract(self.caches)
        self.path, self.manifest = caches[0].path, caches[0].manifest
        self._starts = [0, *np.cumsum([len(cache) for cache in caches]).tolist()]
        self._kept, again = _first_of_each(self.caches)  # numbers in the row of all samples of all caches
        self._require_same(again)
        self.tokens = np.concatenate([cache.tokens for cache in caches])[self._kept]
        calibrations = [_calibrations(cache) for cache in caches]
        distinct = [number for number, found in enumerate(calibrations) if calibrations.index(found) == number]
        self.tables = tuple(caches[number].path for number in distinct)
        self._tables = [distinct.index(calibrations.index(found)) for found in calibrations]

    def __len__(self) -> int:
        return len(self._kept)

    def __str__(self) -> str:
        named = [str(cache) for cache in self.caches]
        more = len(named) - MOST_NAMED
        return ", ".join(named[:MOST_NAMED]) + (f" and {more:,} more" if more > 0 else "")

    @property
    def fingerprint(self) -> str:
        """Those of the caches, in their order."""
        return "+".join(cache.fingerprint for cache in self.caches)

    def position(self, sample_id: str) -> int:
        """Raises CacheError if there is no such sample."""
        for cache, start in zip(self.caches, self._starts, strict=False):
            if (found := cache.positions.get(sample_id)) is not None:
                return int(np.searchsorted(self._kept, start + found))
        raise CacheError(f"{self} hold no sample {quoted(sample_id)}")

    def sample(self, position: int) -> CachedSample:
        """Raises PairingError if an index and a shard disagree on which sample this is, or on its tokens."""
        cache, place = self._find(self._kept.item(position))
        return self.caches[cache].sample(place)

    def states(self, position: int, arrays: Sequence[ArrayRecord]) -> list[Any]:
        """This sample's rows of each array, as `Cache.states` gives them."""
        cache, place = self._find(self._kept.item(position))
        return self.caches[cache].states(place, arrays)

    def tables_of(self, position: int) -> int:
        """Which of `tables` decode this sample's states."""
        return self._tables[self._find(self._kept.item(position))[0]]

    def count(self) -> list[int]:
        """Samples that are taken of each cache."""
        ends = np.searchsorted(self._kept, self._starts)
        return [int(count) for count in np.diff(ends)]

    def _find(self, number: int) -> tuple[int, int]:
        """Which cache a sample is of, and its position there."""
        cache = bisect_right(self._starts, number) - 1
        return cache, number - self._starts[cache]

    def _require_same(self, again: Sequence[tuple[int, int]]) -> None:
        """Whatever has an id that an earlier sample has is that sample. Raises CacheError; says how many there are."""
        for first, second in again:
            held, there = (self._find(number) for number in (first, second))
            left, right = (self.caches[cache].sample(place) for cache, place in (held, there))
            if not left.equals(right):
                raise CacheError(
                    f"{self.caches[held[0]]} and {self.caches[there[0]]} hold different samples by the id "
                    f"{quoted(left.id)}; extract one of them with other ids (corpus.id; left out, an id is made of the "
                    "content)"
                )
        if again:
            logger.warning("%s: %s samples stand in several of them; each is taken once", self, f"{len(again):,}")


def open_readable(paths: Sequence[Path]) -> ReadableCache:
    """The cache of one path, or the union of several. Raises CacheError as `Cache` and `CacheUnion` do."""
    caches = [Cache(path, len(paths)) for path in paths]
    return caches[0] if len(caches) == 1 else CacheUnion(caches)


def contract(manifest: CacheManifest) -> dict[str, Any]:
    """The part of an identity that two caches share whose samples may be mixed."""
    found = {name: value for name, value in manifest.identity.items() if name not in NOT_CONTRACT}
    conversations = found.get("conversations")
    if isinstance(conversations, dict):
        kept = {name: said for name, said in conversations.items() if name not in NOT_CONTRACT_OF_CONVERSATIONS}
        found["conversations"] = kept
    return found


def _require_one_contract(caches: Sequence[Cache]) -> None:
    seen = dict[str, Cache]()
    for cache in caches:
        if (same := seen.setdefault(cache.fingerprint, cache)) is not cache:
            raise CacheError(f"{same} and {cache} are the same cache; name it once")
    wanted = contract(caches[0].manifest)
    for cache in caches[1:]:
        if lines := list(differences(contract(cache.manifest), wanted)):
            raise CacheError(
                f"{cache} cannot be read together with {caches[0]}: they differ in\n  " + "\n  ".join(lines)
            )


def _first_of_each(caches: Sequence[Cache]) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """[samples] the number of the first sample of every id, ascending; and of every other one, that and its own."""
    ids = pa.chunked_array([cache.ids.cast(pa.large_string()) for cache in caches]).combine_chunks()
    names = ids.dictionary_encode().indices.to_numpy()
    first = np.unique(names, return_index=True)[1]
    others = np.setdiff1d(np.arange(len(names)), first)
    return np.sort(first), [(int(first[names[other]]), int(other)) for other in others.tolist()]


def _calibrations(cache: Cache) -> dict[str, FileRecord | Path | None]:
    """What tells the tables of a cache from others, by the path of an array; None where nothing was calibrated."""
    folders = array_folders(cache.path, cache.manifest)
    records = {folder: CODEC_FILES.read_record(folder) for folder in set(folders.values())}
    found = dict[str, FileRecord | Path | None]()
    for array in cache.manifest.arrays:
        folder = folders[array.path]
        unproven = folder / CODEC_FOLDER if (folder / CODEC_FOLDER).exists() else None
        record = records[folder]
        found[array.path] = unproven if record is None else record.files.get(codec_file(array))
    return found

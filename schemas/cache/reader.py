"""Reading a teacher cache: samples by position or id, states as memory maps of exactly the layers asked for.

Nothing is read unchecked. Opening costs the manifest, the index and the small files of teacher/, which are all hashed.
A file of a shard is hashed when it is first touched by one of the processes that were forked from the one that opened
the cache, and the samples are proven; from then on numbers are read when they are used, at the speed of a plain memory
map. Compressed sentence embeddings, and the texts of a cache of nothing else, are read into memory then: bytes per
sample, not per token.

What was touched stays open as long as the system lets it, at some 13 KB per shard and 1 KB per map. Opening a shard
takes as long as reading dozens of warm samples, and in random order every read beyond the open shards opens one.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from schemas.cache.arrays import ArrayRecord, keeps_tokens
from schemas.cache.checksums import open_manifest
from schemas.cache.codec import CODECS
from schemas.cache.copied import count_let_go, require_shard
from schemas.cache.index import read_index
from schemas.cache.open_shard import Shard
from schemas.cache.proof import prove_samples
from schemas.cache.readable import ReadableCache
from schemas.cache.row_units import count_pairs
from schemas.cache.samples import CachedSample
from schemas.cache.section_files import SectionFiles
from schemas.cache.sections import list_sections, require_paired
from schemas.cache.shard import SAMPLES, STATES, ShardRecord
from schemas.cache.states import open_array
from schemas.cache.teacher_files import TEACHER_FILES
from schemas.errors import CacheError, PairingError
from schemas.storage.remote import locate_anywhere, named

# A map holds no file descriptor and no memory. The maps themselves are scarce: Linux limits how many a process has.
# One cache takes a quarter, because a run may read two, and libraries, heaps and threads take maps, too.
MAX_MAP_COUNT = Path("/proc/sys/vm/max_map_count")
USUAL_MAP_COUNT = 65_530
RECORDS_AT_ONCE = 64  # with all their checksums, tens of kilobytes each
IN_MEMORY = 512  # of what is compressed, and so held in memory


class Cache(ReadableCache):
    """A sealed teacher cache. Positions run over the index, in corpus order."""

    def __init__(self, path: Path | str, together: int = 1):
        """`path`: the folder, or as a string also a URL. `together`: how many caches share what this process may map.

        Raises CacheError: no cache, unknown format, not sealed, altered, an index that does not fit. ValueError: a URL
        of a scheme that nobody knows, or whose package is not installed.
        """
        path = locate_anywhere(path) if isinstance(path, str) else path
        self.path, self.tables = path, (path,)
        self.manifest, self._sealed = open_manifest(path)
        index = read_index(path, self.manifest, self._sealed)
        TEACHER_FILES.check(path, weights=False)
        self.ids = index.column("sample_id").combine_chunks()  # [samples] of Arrow
        self.shards: np.ndarray = index.column("shard").to_numpy()  # [samples] int32: where each lies
        self.rows: np.ndarray = index.column("row").to_numpy()  # [samples] int32: and in which row of samples.arrow
        self.tokens = index.column("tokens").to_numpy()
        self._starts = _first_rows(self.shards, self.tokens)
        self._pairs: tuple[np.ndarray, np.ndarray] | None = None  # of each sample, where they begin and how many
        maps = max(4, _most_maps() // together)
        texts = maps // 4 if keeps_tokens(self.manifest.arrays) else IN_MEMORY
        self.shard = lru_cache(maxsize=texts)(self._open_shard)
        self._mapped = lru_cache(maxsize=maps - maps // 4)(self._open_array)
        self._in_memory = lru_cache(maxsize=IN_MEMORY)(self._open_array)
        self._arrays = {(array.kind, array.layer): array for array in self.manifest.arrays}
        # Found once: to ask the registries at every read would cost as much again as to slice a map.
        subset = self.manifest.rows != "all"
        self._subsets = {key for key, array in self._arrays.items() if subset and array.follows_subset}
        self._per_sample = {key for key, array in self._arrays.items() if array.rows == "samples"}
        if per_pair := {key for key, array in self._arrays.items() if array.rows == "pairs"}:
            pairs = count_pairs(self.tokens.astype(np.int64), self.manifest.teacher.kind == "causal")
            self._pairs = _first_rows(self.shards, pairs), pairs
        self._per_pair = per_pair
        self._decoded = {key for key, array in self._arrays.items() if not CODECS.find(array.encoding).mapped}
        self._let_go = count_let_go(path)
        self._sections = [SectionFiles(section, self._sealed) for section in list_sections(path, self.manifest)]
        self._section_of = {(a.kind, a.layer): held for held in self._sections for a in held.section.manifest.arrays}
        self._paired = lru_cache(maxsize=maps)(self._record_of_paired)

    def __len__(self) -> int:
        return len(self.rows)

    def __str__(self) -> str:
        return named(str(self.path))

    @property
    def fingerprint(self) -> str:
        """The manifest's."""
        return self.manifest.fingerprint

    @cached_property
    def positions(self) -> dict[str, int]:
        """Position by sample id; built on first use, one entry per sample."""
        return {name: position for position, name in enumerate(self.ids.to_pylist())}

    def position(self, sample_id: str) -> int:
        """Raises CacheError if there is no such sample."""
        try:
            return self.positions[sample_id]
        except KeyError:
            raise CacheError(f"{self.path} holds no sample {sample_id!r}") from None

    def sample(self, position: int) -> CachedSample:
        """Raises PairingError if index and shard disagree on which sample this is, or on its tokens."""
        shard, row = self.shard(int(self.shards[position])), int(self.rows[position])
        sample = shard.sample(row)
        if sample.id != self.ids[position].as_py() or len(sample.token_ids) != self.tokens[position]:
            raise PairingError(
                f"{shard.path} row {row} holds sample {sample.id!r} of {len(sample.token_ids)} tokens, the index says "
                f"{self.ids[position].as_py()!r} of {self.tokens[position]}; run `stillroom reindex {self.path}`"
            )
        return sample

    def states(self, position: int, arrays: Sequence[ArrayRecord]) -> list[Any]:
        """This sample's rows of each array: [N] or [N, width] in the stored dtype (bfloat16 as uint16), or RaggedRows.

        Slices of maps, in microseconds. N is 1 of an array per sample, T of masses; of hidden states and next-token
        distributions it is that of the sample's `token_rows`; of attention maps it is that of its pairs of tokens,
        which `schemas.cache.row_units.as_square` puts into [T, T] or [T, T, H].
        """
        unit, row = self.shards.item(position), self.rows.item(position)
        # The index says what the shard does, which is compared when it is opened, and lies closer together.
        every = self._starts.item(position), self.tokens.item(position)
        kept = self.shard(unit).kept_rows(row) if self._subsets else every
        found = []
        for array in arrays:
            key = array.kind, array.layer
            values = (self._in_memory if key in self._decoded else self._mapped)(unit, key)
            start, count = (row, 1) if key in self._per_sample else kept if key in self._subsets else every
            if self._pairs is not None and key in self._per_pair:
                start, count = self._pairs[0].item(position), self._pairs[1].item(position)
            found.append(values[start : start + count])
        return found

    def records(self, units: Sequence[int]) -> Iterator[ShardRecord]:
        """The whole record of each unit, with the files and costs of arrays that were added, too; read anew.

        Raises CacheError for one that is not as it was sealed.
        """
        for start in range(0, len(units), RECORDS_AT_ONCE):
            some = units[start : start + RECORDS_AT_ONCE]
            for first, *added in zip(*(held.read_records(some) for held in self._sections), strict=True):
                files, costs, pairs = dict(first.files), dict(first.costs), first.pairs
                for record in added:
                    files |= record.files
                    costs |= record.costs
                    pairs = record.pairs if pairs is None else pairs
                yield first.model_copy(update={"files": files, "costs": costs, "pairs": pairs})

    def tables_of(self, position: int) -> int:
        """The only ones."""
        return 0

    def _open_shard(self, unit: int) -> Shard:
        first = self._sections[0]
        path, record = first.section.shard(unit), first.record(unit)
        self._require(first, unit)
        if (unit, SAMPLES) in first.checked:
            return Shard(path, record)
        first.files(unit).compare(SAMPLES)  # before it is opened: Arrow may crash on what is damaged
        shard = Shard(path, record)
        prove_samples(shard, self.manifest.teacher)
        self._compare_with_index(unit, shard)
        first.checked.add((unit, SAMPLES))
        return shard

    def _open_array(self, unit: int, key: tuple[str, int]) -> Any:
        array, held = self._arrays[key], self._section_of[key]
        record = self.shard(unit).record if held.section.holds_texts else self._paired(unit, held.section.number)
        self._require(held, unit)
        return open_array(held.files(unit).below(STATES), array, record.rows(array))

    def _require(self, held: SectionFiles, unit: int) -> None:
        """Let a shard lie here before files of it are opened. If shards were let go for it, close all that are open."""
        require_shard(held.section.folder, unit)
        if (let_go := count_let_go(self.path)) != self._let_go:
            self._let_go = let_go
            for opened in (self.shard, self._mapped, self._in_memory):
                opened.cache_clear()

    def _record_of_paired(self, unit: int, number: int) -> ShardRecord:
        """Of a shard of arrays that were added, whose rows are those of the unit's samples."""
        first, held = self._sections[0], self._sections[number]
        record, samples = held.record(unit), first.whole_record(unit).files[SAMPLES]
        require_paired(held.section, unit, record, samples.sha256, self.shard(unit).record)
        return record

    def _compare_with_index(self, unit: int, shard: Shard) -> None:
        """The index lists this shard's samples, all of them, with their tokens. Raises PairingError."""
        start, end = np.searchsorted(self.shards, [unit, unit + 1]).tolist()
        ids, tokens = self.ids.slice(start, end - start), self.tokens[start:end]
        if not (ids.equals(shard.columns["sample_id"]) and np.array_equal(tokens, shard.row_count)):
            raise PairingError(
                f"the index does not list the samples of {shard.path} as they lie there; run `stillroom reindex "
                f"{self.path}`"
            )


def _first_rows(shards: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """[samples] int64: where each sample begins in arrays of a row for each token of its shard."""
    starts: np.ndarray = np.cumsum(tokens, dtype=np.int64) - tokens
    first = np.flatnonzero(np.diff(shards, prepend=-1))
    starts -= np.repeat(starts[first], np.diff(first, append=len(shards)))
    return starts


def _most_maps() -> int:
    """How many files one cache may have mapped at once."""
    try:
        return int(MAX_MAP_COUNT.read_text()) // 4
    except (OSError, ValueError):  # not Linux, where no such limit is known
        return USUAL_MAP_COUNT // 4

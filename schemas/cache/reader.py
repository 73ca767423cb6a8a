"""Reading a teacher cache: samples by position or id, states as memory maps of exactly the layers asked for.

Opening costs the manifest and the index. A shard is checked (record, fingerprint, file sizes) when it is first touched;
its numbers are read when they are used, at the speed of a plain memory map. Compressed sentence embeddings, and the
texts of a cache of nothing else, are read into memory then: bytes a sample, not a token.

What was touched stays open as long as the system lets it, at some 13 KB a shard and 1 KB a map: to open a shard takes
as long as to read dozens of warm samples, and in random order every read beyond what is open opens one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from schemas.cache.arrays import ArrayRecord, by_kind, keeps_tokens
from schemas.cache.manifest import INDEX, CacheManifest, read_manifest
from schemas.cache.samples import INDEX_SCHEMA, SAMPLES_SCHEMA
from schemas.cache.shard import SAMPLES, STATES, ShardRecord, check_shard, shard_path
from schemas.cache.states import map_array
from schemas.errors import CacheError, PairingError

INDEX_KEY = b"stillroom-index"
# A map holds no file descriptor and no memory. What is scarce are the maps themselves: Linux lets a process have so
# many. A quarter is for one cache, for a run may read two, and libraries, heaps and threads take maps, too.
MAX_MAP_COUNT = Path("/proc/sys/vm/max_map_count")
USUAL_MAP_COUNT = 65_530
IN_MEMORY = 512  # of what is compressed, and so held in memory


@dataclass(frozen=True)
class CachedSample:
    """One sample as the pipeline wrote it. Offsets count characters of `text`."""

    id: str
    text: str
    prompt_end: int
    truncated: bool
    token_ids: np.ndarray  # [T] int32; T is 0 in a cache of sentence embeddings alone
    token_offsets: np.ndarray  # [T, 2] int32
    words: np.ndarray  # [n, 2] int32
    noun_phrases: np.ndarray
    verb_phrases: np.ndarray


class Shard:
    """One opened shard: its samples as columns."""

    def __init__(self, path: Path, record: ShardRecord):
        """`record` is what `check_shard` gave. Raises CacheError: samples.arrow is not readable, or not as recorded."""
        self.path, self.record = path, record
        table = _read_samples(path / SAMPLES)
        if len(table) != self.record.samples:
            raise CacheError(
                f"{path / SAMPLES} has {len(table)} rows, shard.json says {self.record.samples}; extract again"
            )
        # One record batch a shard: its only chunk is the map itself, where combining chunks would copy it.
        self._columns = {name: table.column(name).chunk(0) for name in table.column_names}
        self._lists = {
            name: _Ragged(self._columns[name])
            for name in ("token_ids", "token_offsets", "words", "noun_phrases", "verb_phrases")
        }
        self._row_start = self._columns["row_start"].to_numpy()
        self._row_count = self._columns["row_count"].to_numpy()

    def sample(self, row: int) -> CachedSample:
        """The sample in one row of samples.arrow."""
        return CachedSample(
            id=self._columns["sample_id"][row].as_py(),
            text=self._columns["text"][row].as_py(),
            prompt_end=self._columns["prompt_end"][row].as_py(),
            truncated=self._columns["truncated"][row].as_py(),
            **{name: column[row] for name, column in self._lists.items()},
        )

    def rows(self, row: int) -> tuple[int, int]:
        """First row and number of rows of one sample in every array of one row a token."""
        return int(self._row_start[row]), int(self._row_count[row])

    def array(self, array: ArrayRecord) -> np.ndarray:
        """All rows of one array, mapped anew; nothing is read yet."""
        return map_array(self.path / STATES, array, self.record.rows(array))


class Cache:
    """A sealed teacher cache. Positions run over the index, in corpus order."""

    def __init__(self, path: Path):
        """Raises CacheError: no cache, unknown format, not sealed, an index that does not fit."""
        self.path = path
        self.manifest: CacheManifest = read_manifest(path)
        index = _read_index(path, self.manifest)
        self._ids = index.column("sample_id").combine_chunks()
        self.shards: np.ndarray = index.column("shard").to_numpy()  # [samples] int32: where each lies
        self.rows: np.ndarray = index.column("row").to_numpy()  # [samples] int32: and in which row of samples.arrow
        self.tokens: np.ndarray = index.column("tokens").to_numpy()  # [samples] int32
        maps = _most_maps()
        texts = maps // 4 if keeps_tokens(self.manifest.arrays) else IN_MEMORY
        self._record = cache(self._check_shard)
        self.shard = lru_cache(maxsize=texts)(self._open_shard)
        self._mapped = lru_cache(maxsize=maps - maps // 4)(self._open_array)
        self._in_memory = lru_cache(maxsize=IN_MEMORY)(self._open_array)
        self._arrays = {array.path: array for array in self.manifest.arrays}

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def positions(self) -> dict[str, int]:
        """Position by sample id; built on first use, one entry a sample."""
        return {name: position for position, name in enumerate(self._ids.to_pylist())}

    def position(self, sample_id: str) -> int:
        """Raises CacheError if there is no such sample."""
        try:
            return self.positions[sample_id]
        except KeyError:
            raise CacheError(f"{self.path} holds no sample {sample_id!r}") from None

    def array(self, kind: str, layer: int) -> ArrayRecord:
        """Raises CacheError that names what the cache does hold."""
        record = self.manifest.array(kind, layer)
        if record is None:
            raise self._lacks(f"{kind}/{layer}", "that layer")
        return record

    def arrays_of(self, kind: str) -> list[ArrayRecord]:
        """The arrays of a state kind: of each of its layers, or its parts. Raises CacheError if there are none."""
        arrays = by_kind(self.manifest.arrays).get(kind)
        if arrays is None:
            raise self._lacks(kind, "it")
        return arrays

    def _lacks(self, wanted: str, way_out: str) -> CacheError:
        held = ", ".join(a.path for a in self.manifest.arrays)
        return CacheError(f"{self.path} holds no {wanted} (it holds {held}); extract with {way_out} in `states`")

    def sample(self, position: int) -> CachedSample:
        """Raises PairingError if index and shard disagree on which sample this is, or on its tokens."""
        shard, row = self.shard(int(self.shards[position])), int(self.rows[position])
        sample = shard.sample(row)
        if sample.id != self._ids[position].as_py() or len(sample.token_ids) != self.tokens[position]:
            raise PairingError(
                f"{shard.path} row {row} holds sample {sample.id!r} of {len(sample.token_ids)} tokens, the index says "
                f"{self._ids[position].as_py()!r} of {self.tokens[position]}; run `stillroom reindex {self.path}`"
            )
        return sample

    def states(self, position: int, arrays: Sequence[ArrayRecord]) -> list[np.ndarray]:
        """This sample's rows of each array, [T] or [T, width] in the stored dtype (bfloat16 as uint16)."""
        unit, row = int(self.shards[position]), int(self.rows[position])
        start, count = self.shard(unit).rows(row)
        found = []
        for array in arrays:
            values = (self._mapped if array.encoding == "raw" else self._in_memory)(unit, array.path)
            found.append(values[row : row + 1] if array.rows == "samples" else values[start : start + count])
        return found

    def _check_shard(self, unit: int) -> ShardRecord:
        """What stays of a shard's record once it is checked: its names and checksums would be most of it."""
        return check_shard(shard_path(self.path, unit), self.manifest).model_copy(update={"files": {}})

    def _open_shard(self, unit: int) -> Shard:
        return Shard(shard_path(self.path, unit), self._record(unit))

    def _open_array(self, unit: int, path: str) -> np.ndarray:
        return self.shard(unit).array(self._arrays[path])


def _most_maps() -> int:
    """How many files one cache may have mapped at once."""
    try:
        return int(MAX_MAP_COUNT.read_text()) // 4
    except (OSError, ValueError):  # not Linux, where no such limit is known
        return USUAL_MAP_COUNT // 4


class _Ragged:
    """A list column as offsets and flat values: a row is a slice, without a copy."""

    def __init__(self, column: pa.ListArray):
        self.offsets = column.offsets.to_numpy()
        values = column.values
        pairs = pa.types.is_fixed_size_list(values.type)
        flat = (values.values if pairs else values).to_numpy(zero_copy_only=True)
        self.values = flat.reshape(-1, 2) if pairs else flat

    def __getitem__(self, row: int) -> np.ndarray:
        rows: np.ndarray = self.values[self.offsets[row] : self.offsets[row + 1]]
        return rows


def _read_samples(path: Path) -> pa.Table:
    try:
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        table.validate()  # or a length that is damaged would be read beyond the map's end; costs microseconds
    except (OSError, pa.ArrowException) as error:
        raise CacheError(f"cannot read {path}: {error}; remove its shard and extract again") from error
    if not table.schema.equals(SAMPLES_SCHEMA, check_metadata=True):
        raise CacheError(
            f"{path} is not of the format that this stillroom reads; use the one that wrote it, or extract again"
        )
    return table


def require_index(cache: Path, manifest: CacheManifest) -> Path:
    """index.parquet, which is written last. Raises CacheError: the cache is not complete, and by how much."""
    path = cache / INDEX
    if not path.exists():
        done = sum(shard_path(cache, unit).is_dir() for unit in range(manifest.units))
        raise CacheError(
            f"{cache} is not complete: {done} of {manifest.units} shards are there; run `stillroom extract` again, "
            "it does only what is missing"
        )
    return path


def _read_index(cache: Path, manifest: CacheManifest) -> pa.Table:
    path = require_index(cache, manifest)
    try:
        table = pq.read_table(path, memory_map=True)
        table.validate(full=True)  # or an id that is damaged is found to be no text only where it is used
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:  # the last, of a column's name
        raise CacheError(f"cannot read {path}: {error}; run `stillroom reindex {cache}`") from error
    # Not the whole metadata: Parquet writers add keys of their own.
    version = (table.schema.metadata or {}).get(INDEX_KEY)
    if not table.schema.equals(INDEX_SCHEMA) or version != INDEX_SCHEMA.metadata[INDEX_KEY]:
        raise CacheError(f"{path} is not an index of this format; run `stillroom reindex {cache}`")
    if len(table) == 0:
        raise CacheError(f"{cache} holds no samples")
    return table

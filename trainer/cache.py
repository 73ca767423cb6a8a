"""Reading a teacher cache: samples by position or id, states as memory maps of exactly the layers asked for.

Opening costs the manifest and the index. A shard is checked (record, fingerprint, file sizes) when it is first touched;
its numbers are read when they are used, at the speed of a plain memory map. Compressed sentence embeddings, and the
texts of a cache of nothing else, are read into memory then: bytes a sample, not a token.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from schemas.errors import CacheError, PairingError
from schemas.manifest import INDEX, SPARSE_ARRAYS, ArrayRecord, CacheManifest, Kind, SparseKind, read_manifest
from schemas.samples import INDEX_SCHEMA, SAMPLES_SCHEMA
from schemas.shard import SAMPLES, STATES, ShardRecord, check_shard, shard_path
from schemas.states import map_array

INDEX_KEY = b"stillroom-index"
OPEN_SHARDS = 512  # mapped at once; a map costs address space, not memory, and holds no file descriptor


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
    """One opened shard: its samples as columns, its arrays mapped on demand."""

    def __init__(self, path: Path, manifest: CacheManifest):
        self.path = path
        self.record: ShardRecord = check_shard(path, manifest)
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
        self._maps: dict[str, np.ndarray] = {}

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
        """All rows of one array, mapped on first use; nothing is read yet."""
        values = self._maps.get(array.path)
        if values is None:
            values = self._maps[array.path] = map_array(self.path / STATES, array, self.record.rows(array))
        return values

    def states(self, row: int, array: ArrayRecord) -> np.ndarray:
        """One sample's rows of one array: a view into the map. Of one row a sample, it is [1, width]."""
        start, count = (row, 1) if array.rows == "samples" else self.rows(row)
        return self.array(array)[start : start + count]


class Cache:
    """A sealed teacher cache. Positions run over the index, in corpus order."""

    def __init__(self, path: Path):
        """Raises CacheError: no cache, unknown format, not sealed, an index that does not fit."""
        self.path = path
        self.manifest: CacheManifest = read_manifest(path)
        index = _read_index(path, self.manifest)
        self._ids = index.column("sample_id").combine_chunks()
        self._shard = index.column("shard").to_numpy()
        self._row = index.column("row").to_numpy()
        self.tokens: np.ndarray = index.column("tokens").to_numpy()  # [samples] int32
        self.shard = lru_cache(maxsize=OPEN_SHARDS)(self._open_shard)

    def __len__(self) -> int:
        return len(self._row)

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

    def array(self, kind: Kind, layer: int) -> ArrayRecord:
        """Raises CacheError that names what the cache does hold."""
        record = self.manifest.array(kind, layer)
        if record is None:
            held = ", ".join(a.path for a in self.manifest.arrays)
            wanted, way_out = (kind, "it") if "/" in kind else (f"{kind}/{layer}", "that layer")
            raise CacheError(f"{self.path} holds no {wanted} (it holds {held}); extract with {way_out} in `states`")
        return record

    def sparse(self, kind: SparseKind) -> tuple[ArrayRecord, ArrayRecord]:
        """Token ids, and their log-probabilities or weights. Raises CacheError that names what the cache does hold."""
        ids, values = SPARSE_ARRAYS[kind]
        last = self.manifest.teacher.num_layers
        return self.array(ids, last), self.array(values, last)

    def pooled(self) -> ArrayRecord:
        """The sentence embeddings. Raises CacheError that names what the cache does hold."""
        record = self.manifest.pooled
        return self.array("pooled", self.manifest.teacher.num_layers if record is None else record.layer)

    def sample(self, position: int) -> CachedSample:
        """Raises PairingError if index and shard disagree on which sample this is, or on its tokens."""
        shard, row = self.shard(int(self._shard[position])), int(self._row[position])
        sample = shard.sample(row)
        if sample.id != self._ids[position].as_py() or len(sample.token_ids) != self.tokens[position]:
            raise PairingError(
                f"{shard.path} row {row} holds sample {sample.id!r} of {len(sample.token_ids)} tokens, the index says "
                f"{self._ids[position].as_py()!r} of {self.tokens[position]}; run `stillroom reindex {self.path}`"
            )
        return sample

    def states(self, position: int, arrays: Sequence[ArrayRecord]) -> list[np.ndarray]:
        """This sample's rows of each array, [T] or [T, width] in the stored dtype (bfloat16 as uint16)."""
        shard, row = self.shard(int(self._shard[position])), int(self._row[position])
        return [shard.states(row, array) for array in arrays]

    def _open_shard(self, unit: int) -> Shard:
        return Shard(shard_path(self.path, unit), self.manifest)


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
    except (OSError, pa.ArrowInvalid) as error:
        raise CacheError(f"cannot read {path}: {error}; remove its shard and extract again") from error
    if not table.schema.equals(SAMPLES_SCHEMA, check_metadata=True):
        raise CacheError(
            f"{path} is not of the format that this stillroom reads; use the one that wrote it, or extract again"
        )
    return table


def _read_index(cache: Path, manifest: CacheManifest) -> pa.Table:
    path = cache / INDEX
    if not path.exists():
        done = sum(shard_path(cache, unit).is_dir() for unit in range(manifest.units))
        raise CacheError(
            f"{cache} is not complete: {done} of {manifest.units} shards are there; run `stillroom extract` again, "
            "it does only what is missing"
        )
    try:
        table = pq.read_table(path, memory_map=True)
    except (OSError, pa.ArrowInvalid) as error:
        raise CacheError(f"cannot read {path}: {error}; run `stillroom reindex {cache}`") from error
    # Not the whole metadata: Parquet writers add keys of their own.
    version = (table.schema.metadata or {}).get(INDEX_KEY)
    if not table.schema.equals(INDEX_SCHEMA) or version != INDEX_SCHEMA.metadata[INDEX_KEY]:
        raise CacheError(f"{path} is not an index of this format; run `stillroom reindex {cache}`")
    if len(table) == 0:
        raise CacheError(f"{cache} holds no samples")
    return table

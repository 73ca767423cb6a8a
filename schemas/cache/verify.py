"""Proving a cache: everything that can be checked without the teacher. Reads every byte once, on all cores.

What cannot be: whether the numbers are the teacher's, and whether spans are what they are called.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.cache.arrays import KINDS, ArrayRecord, StoredStates, by_kind
from schemas.cache.checksums import Checksums, check_sealed_shard, require_own_codecs
from schemas.cache.codec import CODECS
from schemas.cache.index import read_index
from schemas.cache.manifest import INDEX, MANIFEST, CacheManifest
from schemas.cache.open_shard import Shard
from schemas.cache.proof import prove_samples
from schemas.cache.shard import RECORD, STATES, ShardRecord, redo, shard_path
from schemas.cache.states import check_array, check_group
from schemas.errors import CacheError, StillroomError
from schemas.storage.blocks import check_blocks

ROWS_AT_ONCE = 65_536


@dataclass(frozen=True)
class ProvenShard:
    """A shard in which nothing is wrong, and what the index must say of it."""

    record: ShardRecord
    ids: pa.Array  # [samples]
    tokens: np.ndarray  # [samples]


def verify_shards(
    cache: Path, manifest: CacheManifest, sealed: Checksums | None, threads: int | None = None
) -> Iterator[ProvenShard | StillroomError]:
    """Every shard or what is wrong with it, in order. Uses one thread per core that this process may use, because
    hashing and NumPy let threads run side by side."""

    def prove(unit: int) -> ProvenShard | StillroomError:
        try:
            return verify_shard(cache, unit, manifest, sealed)
        except StillroomError as error:
            return error

    with ThreadPoolExecutor(threads or len(os.sched_getaffinity(0))) as pool:
        yield from pool.map(prove, range(manifest.units))


def verify_shard(cache: Path, unit: int, manifest: CacheManifest, sealed: Checksums | None) -> ProvenShard:
    """Checksums, then format, rows and numbers. Raises CacheError at the first that is wrong.

    No file is opened before its checksum is known to be right: Arrow may crash on what is damaged.
    """
    path = shard_path(cache, unit)
    record = check_sealed_shard(cache, unit, manifest, sealed)
    require_own_codecs(cache, unit, record)
    for name, file in record.files.items():
        check_blocks(path / name, file, redo(path), whole=True)
    if record.unit != unit:
        raise CacheError(f"{path / RECORD} says unit {record.unit}, and it is {unit}; {redo(path)}")
    check_group(path / STATES)
    shard = Shard(path, record)
    prove_samples(shard, manifest.teacher)
    for array in manifest.arrays:
        check_array(path / STATES, array, record.rows(array))
        _check_finite(shard, array)
    _check_kinds(shard, manifest)
    # Copies, because the shard's map goes with it.
    ids = pa.array(shard.columns["sample_id"].to_pylist(), pa.string())
    return ProvenShard(record.model_copy(update={"files": {}}), ids, shard.row_count.copy())


def _check_finite(shard: Shard, array: ArrayRecord) -> None:
    values, codec = shard.array(array), CODECS.find(array.encoding)
    for start in range(0, len(values), ROWS_AT_ONCE):
        finite = codec.are_finite(array, values[start : start + ROWS_AT_ONCE])
        if not finite.all():
            row = start + int(np.flatnonzero(~finite)[0])
            raise CacheError(f"{shard.path}: {array.path} row {row} is not finite; {redo(shard.path)}")


def _check_kinds(shard: Shard, manifest: CacheManifest) -> None:
    """Let each kind of states judge its own numbers. Raises CacheError."""
    for name, arrays in by_kind(manifest.arrays).items():
        kind, record = KINDS[name], manifest.records.get(name)
        for group in [arrays] if kind.parts else [[array] for array in arrays]:
            values = tuple(shard.array(array) for array in group)
            row_counts = shard.kept_count if kind.follows_subset else shard.row_count.astype(np.int64)
            if fault := kind.find_fault(StoredStates(values, row_counts, manifest.teacher, record)):
                place = name if kind.parts else group[0].path
                raise CacheError(f"{shard.path}: {place}: {fault}; {redo(shard.path)}")


def verify_index(cache: Path, manifest: CacheManifest, sealed: Checksums | None, shards: Sequence[ProvenShard]) -> None:
    """The shards are the whole plan, and the index lists every row of them once, in order, with its sample.

    Raises CacheError.
    """
    planned = sum(shard.record.samples + shard.record.overlong for shard in shards)
    if planned != manifest.corpus.samples:
        raise CacheError(
            f"{cache}: the shards account for {planned} samples, {MANIFEST} says {manifest.corpus.samples}; "
            "extract again"
        )
    index = read_index(cache, manifest, sealed)
    ids = pa.chunked_array([shard.ids for shard in shards], pa.string())
    counts = np.concatenate([shard.tokens for shard in shards])
    units = np.repeat(np.arange(len(shards)), [shard.record.samples for shard in shards])
    same = index.column("sample_id").equals(ids) and np.array_equal(index.column("tokens").to_numpy(), counts)
    if not (same and np.array_equal(index.column("shard").to_numpy(), units)):
        raise CacheError(
            f"{cache / INDEX} of {len(index)} samples does not list each of the shards' {len(ids)} rows once and in "
            f"order; run `stillroom reindex {cache}`"
        )
    if (different := pc.count_distinct(ids).as_py()) != len(ids):
        raise CacheError(f"{cache}: {len(ids)} samples have {different} ids; name every sample once and extract again")

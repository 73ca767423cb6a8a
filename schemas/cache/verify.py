"""Proving a cache: everything that can be checked without the teacher. Reads every byte once, on all cores.

What cannot be: whether the numbers are the teacher's, and whether spans are what they are called.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.cache.arrays import KINDS, ArrayRecord, StoredStates, by_kind
from schemas.cache.checksums import CHECKSUMS, Checksums, check_sealed_shard, require_own_codecs
from schemas.cache.codec import CODECS
from schemas.cache.hollow import whole_shard
from schemas.cache.index import read_index
from schemas.cache.manifest import INDEX, MANIFEST, CacheManifest
from schemas.cache.open_shard import Shard
from schemas.cache.proof import prove_samples
from schemas.cache.sections import Section, list_sections, require_paired
from schemas.cache.shard import RECORD, SAMPLES, STATES, ShardRecord
from schemas.cache.states import check_array, check_group, map_array
from schemas.cache.totals import ShardTotals
from schemas.cache.ways_out import redo
from schemas.errors import CacheError, StillroomError
from schemas.storage.blocks import check_blocks
from schemas.storage.fingerprint import differences

ROWS_AT_ONCE = 65_536


@dataclass(frozen=True)
class ProvenShard:
    """A shard in which nothing is wrong, and what the index must say of it."""

    record: ShardRecord  # without its files
    bytes: int  # of these
    ids: pa.Array  # [samples]
    tokens: np.ndarray  # [samples]


@dataclass(frozen=True)
class SeenAddition:
    """A shard of arrays that were added, and what is wrong with it."""

    section: Section
    unit: int
    problem: StillroomError | None
    bytes: int = 0  # of its files, if nothing is wrong


def verify_shards(
    cache: Path, manifest: CacheManifest, sealed: Checksums | None, threads: int | None = None
) -> Iterator[ProvenShard | StillroomError]:
    """Every shard or what is wrong with it, in order. Uses one thread per core that this process may use, because
    hashing and NumPy let threads run side by side."""

    def prove(unit: int) -> ProvenShard | StillroomError:
        try:
            with whole_shard(cache, unit):
                return verify_shard(cache, unit, manifest, sealed)
        except StillroomError as error:
            return error

    with ThreadPoolExecutor(threads or _cores()) as pool:
        yield from pool.map(prove, range(manifest.units))


def verify_added(
    cache: Path, manifest: CacheManifest, sealed: Checksums | None, threads: int | None = None
) -> Iterator[SeenAddition]:
    """The same of every shard of the arrays that were added to the cache: nothing, if none were."""
    first, *added = list_sections(cache, manifest)

    def prove(section: Section, unit: int) -> SeenAddition:
        try:
            with whole_shard(section.folder, unit):
                return SeenAddition(section, unit, None, _verify_addition(section, unit, first, sealed).file_bytes)
        except StillroomError as error:
            return SeenAddition(section, unit, error)

    def prove_unit(unit: int) -> list[SeenAddition]:
        with whole_shard(cache, unit, {SAMPLES}):
            return [prove(section, unit) for section in added]

    with ThreadPoolExecutor(threads or _cores()) as pool:
        for found in pool.map(prove_unit, range(manifest.units) if added else ()):
            yield from found


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def verify_shard(cache: Path, unit: int, manifest: CacheManifest, sealed: Checksums | None) -> ProvenShard:
    """Checksums, then format, rows and numbers of the shard that holds a unit's texts. Raises CacheError at the first
    that is wrong.

    No file is opened before its checksum is known to be right: Arrow may crash on what is damaged.
    """
    first = list_sections(cache, manifest)[0]
    record, path = _check_files(first, unit, sealed), first.shard(unit)
    shard = Shard(path, record)
    prove_samples(shard, manifest.teacher)
    _check_numbers(path, record, first.manifest)
    _check_kinds(path, record, first.manifest, shard)
    # Copies, because the shard's map goes with it.
    ids = pa.array(shard.columns["sample_id"].to_pylist(), pa.string())
    return ProvenShard(record.model_copy(update={"files": {}}), record.file_bytes, ids, shard.row_count.copy())


def _verify_addition(section: Section, unit: int, first: Section, sealed: Checksums | None) -> ShardRecord:
    """Its record. Raises CacheError. Where the texts are damaged, which is told elsewhere, less can be said of it."""
    record, path = _check_files(section, unit, sealed), section.shard(unit)
    _check_numbers(path, record, section.manifest)
    try:
        texts = check_sealed_shard(first.folder, unit, first.manifest, sealed)
        file = texts.files[SAMPLES]
        check_blocks(first.shard(unit) / SAMPLES, file, redo(first.shard(unit)), whole=True)
        shard = Shard(first.shard(unit), texts)
        prove_samples(shard, first.manifest.teacher)
    except (StillroomError, KeyError):
        return record
    require_paired(section, unit, record, file.sha256, texts)
    _check_kinds(path, record, section.manifest, shard)
    return record


def _check_files(section: Section, unit: int, sealed: Checksums | None) -> ShardRecord:
    """Every file against its checksum."""
    path, of_section = section.shard(unit), None if sealed is None else sealed.of(section.number)
    record = check_sealed_shard(section.folder, unit, section.manifest, of_section)
    require_own_codecs(section.folder, unit, record)
    for name, file in record.files.items():
        check_blocks(path / name, file, redo(path), whole=True)
    if record.unit != unit:
        raise CacheError(f"{path / RECORD} says unit {record.unit}, and it is {unit}; {redo(path)}")
    if section.holds_texts and SAMPLES not in record.files:
        raise CacheError(f"{path} has no {SAMPLES}; {redo(path)}")
    return record


def _check_numbers(path: Path, record: ShardRecord, manifest: CacheManifest) -> None:
    """What other readers are told of every array is right, and its numbers are finite."""
    check_group(path / STATES)
    for array in manifest.arrays:
        check_array(path / STATES, array, record.rows(array))
        _check_finite(path, array, map_array(path / STATES, array, record.rows(array)))


def _check_finite(path: Path, array: ArrayRecord, values: Any) -> None:
    codec = CODECS.find(array.encoding)
    for start in range(0, len(values), ROWS_AT_ONCE):
        finite = codec.are_finite(array, values[start : start + ROWS_AT_ONCE])
        if not finite.all():
            row = start + int(np.flatnonzero(~finite)[0])
            raise CacheError(f"{path}: {array.path} row {row} is not finite; {redo(path)}")


def _check_kinds(path: Path, record: ShardRecord, manifest: CacheManifest, samples: Shard) -> None:
    """Let each kind of states judge its own numbers. Raises CacheError."""
    for name, arrays in by_kind(manifest.arrays).items():
        kind, made = KINDS[name], manifest.records.get(name)
        for group in [arrays] if kind.parts else [[array] for array in arrays]:
            values = tuple(map_array(path / STATES, array, record.rows(array)) for array in group)
            row_counts = samples.row_counts(group[0], manifest.teacher.kind == "causal")
            if fault := kind.find_fault(StoredStates(values, row_counts, manifest.teacher, made)):
                place = name if kind.parts else group[0].path
                raise CacheError(f"{path}: {place}: {fault}; {redo(path)}")


def verify_totals(
    cache: Path, sealed: Checksums | None, shards: Sequence[ProvenShard], added: Sequence[SeenAddition]
) -> None:
    """The seal says what all shards hold together, if it says so at all. Raises CacheError."""
    if sealed is None or sealed.totals is None:
        return
    found = ShardTotals.of((shard.record, shard.bytes) for shard in shards)
    found = found.model_copy(update={"bytes": found.bytes + sum(shard.bytes for shard in added)})
    if lines := list(differences(sealed.totals.model_dump(), found.model_dump())):
        raise CacheError(
            f"{cache / CHECKSUMS} does not say what the shards hold together ({'; '.join(lines)}); remove it and run "
            f"`stillroom reindex {cache}`"
        )


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

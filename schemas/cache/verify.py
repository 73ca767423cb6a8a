"""Proving a cache: everything that can be checked without the teacher."""

from pathlib import Path

import numpy as np

from schemas.cache.arrays import KINDS, ArrayRecord, StoredStates, by_kind
from schemas.cache.manifest import MANIFEST, CacheManifest
from schemas.cache.open_shard import Shard
from schemas.cache.reader import Cache
from schemas.cache.records import nest_records
from schemas.cache.shard import RECORD, STATES, ShardRecord, check_shard, shard_path
from schemas.cache.states import check_group
from schemas.errors import CacheError
from schemas.storage.fingerprint import differences, hash_file

ROWS_AT_ONCE = 65_536


def check_copies(path: Path, manifest: CacheManifest) -> None:
    """What cache.json says beside its identity, which alone is under its fingerprint, agrees with it.

    Raises CacheError with the fields that differ.
    """
    identity = manifest.identity
    copies = {
        "annotator": manifest.annotator,
        "corpus": identity["corpus"] | manifest.corpus.model_dump(include={"sha256", "samples"}),
        "states": {a.path: a.model_dump(include={"width", "dtype", "encoding"}) for a in manifest.arrays},
        "teacher": identity["teacher"] | manifest.teacher.model_dump(include={"kind", "max_tokens"}),
        **nest_records(manifest.records),
    }
    if wrong := list(differences(copies, {name: identity.get(name) for name in copies})):
        raise CacheError(f"{path / MANIFEST} contradicts its own identity ({'; '.join(wrong)}); extract again")


def verify_shard(cache: Path, unit: int, manifest: CacheManifest) -> ShardRecord:
    """Checksums, then format, rows and numbers. Raises CacheError at the first that is wrong.

    No file is opened before its checksum is known to be right: Arrow may crash on what is damaged.
    """
    path = shard_path(cache, unit)
    record = check_shard(path, manifest)
    for name, file in record.files.items():
        if hash_file(path / name) != file.sha256:
            raise CacheError(f"{path / name} does not have its checksum; remove {path} and extract again")
    check_group(path / STATES)
    shard = Shard(path, record)
    next_row = truncated = 0
    for row in range(record.samples):
        sample = shard.sample(row)
        start, count = shard.rows(row)
        if start != next_row or count != len(sample.token_ids) or count != len(sample.token_offsets):
            raise CacheError(
                f"{path} row {row}, sample {sample.id!r}: {count} states for {len(sample.token_ids)} tokens"
            )
        next_row += count
        truncated += sample.truncated
    for name, recorded, found in (
        ("unit", record.unit, unit),
        ("tokens", record.tokens, next_row),
        ("truncated", record.truncated, truncated),
    ):
        if recorded != found:
            raise CacheError(
                f"{path / RECORD} says {name} {recorded}, and it is {found}; remove {path} and extract again"
            )
    for array in manifest.arrays:
        if array.dtype != "int32":
            _check_finite(shard, array)
    _check_kinds(shard, manifest)
    return record


def _check_finite(shard: Shard, array: ArrayRecord) -> None:
    values = shard.array(array)
    for start in range(0, len(values), ROWS_AT_ONCE):
        block = values[start : start + ROWS_AT_ONCE]
        # A bfloat16 is not finite when all eight bits of its exponent are set.
        finite = (block & 0x7F80) != 0x7F80 if array.dtype == "bfloat16" else np.isfinite(block)
        if not finite.all():
            row = start + int(np.flatnonzero(~finite.reshape(len(block), -1).all(axis=1))[0])
            raise CacheError(f"{shard.path}: {array.path} row {row} is not finite; remove the shard and extract again")


def _check_kinds(shard: Shard, manifest: CacheManifest) -> None:
    """What each kind of states says of its own numbers. Raises CacheError."""
    row_counts = np.array([shard.rows(row)[1] for row in range(shard.record.samples)], np.int64)
    for name, arrays in by_kind(manifest.arrays).items():
        kind, record = KINDS[name], manifest.records.get(name)
        for group in [arrays] if kind.parts else [[array] for array in arrays]:
            values = tuple(shard.array(array) for array in group)
            if fault := kind.find_fault(StoredStates(values, row_counts, manifest.teacher, record)):
                place = name if kind.parts else group[0].path
                raise CacheError(f"{shard.path}: {place}: {fault}; remove the shard and extract again")


def check_index(cache: Cache, records: list[ShardRecord]) -> None:
    """Every row of every shard stands in it once, in order, with its own sample. Raises CacheError or PairingError."""
    samples = [record.samples for record in records]
    shards = np.repeat(np.arange(len(records)), samples)
    rows = np.concatenate([np.arange(count) for count in samples])
    if not (np.array_equal(cache.shards, shards) and np.array_equal(cache.rows, rows)):
        raise CacheError(
            f"the index of {len(cache)} samples does not list each of the shards' {len(rows)} rows once and in order; "
            f"run `stillroom reindex {cache.path}`"
        )
    for position in range(len(cache)):
        cache.sample(position)

"""Writing shards: beside, to the platter, and then in place by one rename, so that no reader ever sees half of one.

A shard's bytes are a function of its unit alone: no times, no random names, no worker. Costs one write of the states
and one reading for the checksums, mostly from the page cache.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.annotation.tokens import Counts
from pipeline.corpus.sample import NO_SPANS, AnnotatedSample
from schemas.cache.arrays import ArrayRecord, keeps_tokens
from schemas.cache.manifest import INDEX, MANIFEST, SHARDS, CacheManifest
from schemas.cache.samples import INDEX_SCHEMA, SAMPLES_SCHEMA, Offsets
from schemas.cache.shard import (
    RECORD,
    SAMPLES,
    STATES,
    ShardRecord,
    check_named,
    check_shard,
    list_files,
    read_shard,
    shard_path,
)
from schemas.cache.states import write_states
from schemas.errors import CacheError
from schemas.storage import atomic as files
from schemas.storage.atomic import commit_folder, disk_full, file_beside, folder_beside, write_text
from schemas.storage.fingerprint import hash_file

# Of texts without tokens, where the text is most of what lies beside the states: 33 bytes of 92, level 3 makes 40.
TEXT_CODEC = pa.Codec("zstd", compression_level=19)


def write_shard(
    cache: Path,
    unit: int,
    samples: Sequence[AnnotatedSample],
    arrays: dict[str, np.ndarray],
    records: Sequence[ArrayRecord],
    fingerprint: str,
    counts: Counts,
    owner: str = "",
) -> ShardRecord:
    """Write and commit one shard. `arrays` is keyed by record path, [rows] or [rows, width] in the stored dtype.

    Where no array has a row a token, tokens and spans are left out too, and samples.arrow is compressed. If the shard
    is there already, it stays and its record is returned. Raises ResourceError if the disk is full; then nothing of
    this shard is left behind.
    """
    target = shard_path(cache, unit)
    options = pa.ipc.IpcWriteOptions()
    if not keeps_tokens(records):
        samples = [_without_tokens(sample) for sample in samples]
        options = pa.ipc.IpcWriteOptions(compression=TEXT_CODEC)
    with disk_full(f"shard {unit}", cache), folder_beside(target, owner) as folder:
        tokens = _write_samples(folder / SAMPLES, samples, options)
        write_states(folder / STATES, arrays, list(records))
        record = ShardRecord(
            fingerprint=fingerprint,
            unit=unit,
            samples=len(samples),
            tokens=tokens,
            truncated=counts.truncated,
            overlong=counts.overlong,
            files=list_files(folder),
        )
        check_named(folder, record, records)
        (folder / RECORD).write_text(record.model_dump_json(indent=1) + "\n", encoding="utf-8")
        if commit_folder(folder, target):
            return record
    return read_shard(target, fingerprint)


def check_shards(cache: Path, manifest: CacheManifest) -> tuple[dict[int, ShardRecord], dict[int, str]]:
    """The committed shards by unit, and what is wrong with those that are damaged. Looks at records and file sizes."""
    whole: dict[int, ShardRecord] = {}
    damaged: dict[int, str] = {}
    for unit in range(manifest.units):
        shard = shard_path(cache, unit)
        if not shard.exists():
            continue
        try:
            whole[unit] = check_shard(shard, manifest)
        except CacheError as error:
            damaged[unit] = str(error)
    return whole, damaged


def write_index(cache: Path, manifest: CacheManifest) -> int:
    """Make index.parquet anew from the shards and return how many samples there are.

    Raises CacheError if a shard is missing or damaged, ResourceError if the disk is full.
    """
    with disk_full(INDEX, cache), file_beside(cache / INDEX) as path:
        samples = 0
        with pq.ParquetWriter(path, INDEX_SCHEMA, compression="zstd") as index:
            for unit in range(manifest.units):
                shard = shard_path(cache, unit)
                record = check_shard(shard, manifest)
                # Hashed before it is opened: Arrow may crash on what is damaged.
                if hash_file(shard / SAMPLES) != record.files[SAMPLES].sha256:
                    raise CacheError(f"{shard / SAMPLES} does not have its checksum; remove {shard} and extract again")
                rows = _index_rows(shard / SAMPLES, unit)
                index.write_batch(rows)
                samples += len(rows)
    return samples


def write_manifest(cache: Path, manifest: CacheManifest) -> None:
    """Write cache.json. Raises ResourceError if the disk is full."""
    with disk_full(MANIFEST, cache):
        write_text(cache / MANIFEST, manifest.to_json())


def remove_temporaries(cache: Path, owners: Collection[str] = ()) -> None:
    """Remove what killed writers left beside shards and files, as `schemas.storage.atomic` does."""
    for parent in (cache, cache / SHARDS):
        files.remove_temporaries(parent, owners)


def _without_tokens(sample: AnnotatedSample) -> AnnotatedSample:
    return replace(
        sample,
        token_ids=np.empty(0, np.int32),
        token_offsets=np.empty((0, 2), np.int32),
        spans=NO_SPANS,
    )


def _write_samples(path: Path, samples: Sequence[AnnotatedSample], options: pa.ipc.IpcWriteOptions) -> int:
    """One record batch: a reader maps it, unless it is compressed. Returns the number of tokens."""
    row_count = np.array([len(sample.token_ids) for sample in samples], dtype=np.int32)
    row_end = np.cumsum(row_count, dtype=np.int64)
    columns = {
        "sample_id": pa.array([sample.id for sample in samples], pa.string()),
        "text": pa.array([sample.text for sample in samples], pa.string()),
        "prompt_end": pa.array([sample.prompt_end for sample in samples], pa.int32()),
        "truncated": pa.array([sample.truncated for sample in samples], pa.bool_()),
        "token_ids": _lists([sample.token_ids for sample in samples], pa.list_(pa.int32())),
        "token_offsets": _lists([sample.token_offsets for sample in samples], Offsets),
        "words": _lists([sample.spans.words for sample in samples], Offsets),
        "noun_phrases": _lists([sample.spans.noun_phrases for sample in samples], Offsets),
        "verb_phrases": _lists([sample.spans.verb_phrases for sample in samples], Offsets),
        "row_start": pa.array(row_end - row_count, pa.int64()),
        "row_count": pa.array(row_count, pa.int32()),
    }
    batch = pa.record_batch([columns[name] for name in SAMPLES_SCHEMA.names], schema=SAMPLES_SCHEMA)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, SAMPLES_SCHEMA, options=options) as writer:
        writer.write_batch(batch)
    return int(row_count.sum())


def _lists(rows: list[np.ndarray], kind: pa.ListType) -> pa.ListArray:
    """A list column without a Python object for every number."""
    ends = np.cumsum([0, *(len(row) for row in rows)], dtype=np.int32)
    flat = np.concatenate([np.asarray(row, dtype=np.int32).reshape(-1) for row in rows] or [np.empty(0, np.int32)])
    values = pa.array(flat, pa.int32())
    if pa.types.is_fixed_size_list(kind.value_type):
        values = pa.FixedSizeListArray.from_arrays(values, type=kind.value_type)
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), values, type=kind)


def _index_rows(samples: Path, unit: int) -> pa.RecordBatch:
    with pa.memory_map(str(samples)) as source:
        table = pa.ipc.open_file(source).read_all()
        rows = len(table)
        columns = [
            pa.array(table.column("sample_id").to_pylist(), pa.string()),
            pa.array(np.full(rows, unit, dtype=np.int32)),
            pa.array(np.arange(rows, dtype=np.int32)),
            pa.array(table.column("row_count").to_numpy()),
        ]
    return pa.record_batch(columns, schema=INDEX_SCHEMA)

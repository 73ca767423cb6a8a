"""Writing a cache: every file beside its place, to the platter, and then in place by one rename.

A shard's bytes are a function of its unit alone: no times, no random names, no worker. Costs one write of the states
and one reading for the checksums, mostly from the page cache.
"""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from schemas.cache.arrays import ArrayRecord, keeps_tokens
from schemas.cache.codec_files import codecs_sha256
from schemas.cache.encoding_cost import EncodingCost
from schemas.cache.halved import HalvedBatch, write_halved
from schemas.cache.hollow import bring_shard
from schemas.cache.learnt import count_learnt
from schemas.cache.list_columns import make_lists
from schemas.cache.manifest import MANIFEST, CacheManifest
from schemas.cache.samples import SAMPLES_SCHEMA, CachedSample, Offsets, Turns
from schemas.cache.shard import RECORD, SAMPLES, STATES, ShardRecord, check_named, read_shard, shard_path
from schemas.cache.states import Values, write_states
from schemas.cache.token_rows import NO_ROWS, count_rows
from schemas.storage.atomic import disk_full, flush_folder, folder_beside
from schemas.storage.blocks import BlockedFile, list_blocks
from schemas.storage.published import commit_folder, published_at, write_text

NO_SPANS = np.empty((0, 2), np.int32)
# Of texts without tokens, where the text is most of what lies beside the states: 33 bytes of 92, level 3 makes 40.
TEXT_CODEC = pa.Codec("zstd", compression_level=19)


def write_manifest(cache: Path, manifest: CacheManifest) -> None:
    """Write cache.json. Raises ResourceError if the disk is full."""
    with disk_full(MANIFEST, cache):
        write_text(cache / MANIFEST, manifest.to_json())


def write_shard(
    cache: Path,
    unit: int,
    samples: Sequence[CachedSample],
    arrays: Mapping[str, Values],
    records: Sequence[ArrayRecord],
    fingerprint: str,
    overlong: int,
    owner: str = "",
    halved: Sequence[HalvedBatch] = (),
    costs: Mapping[str, EncodingCost] | None = None,
    texts: str | None = None,
) -> ShardRecord:
    """Write and commit one shard. `arrays` is keyed by record path, as each array's codec takes them.

    If no array has a row per token, tokens and spans are left out too, and samples.arrow is compressed. If the shard
    exists already, it stays and its record is returned. `halved` are batches for which memory ran out, `costs` what
    encoding cost, by the array's path. `texts` is what the samples.arrow hashes to that holds these samples, if `cache`
    is the folder of arrays that are added to a cache: then none is written.
    Raises ResourceError if the disk is full; then nothing of this shard is left behind.
    """
    target = shard_path(cache, unit)
    options = pa.ipc.IpcWriteOptions()
    if texts is None and not keeps_tokens(records):
        samples = [_without_tokens(sample) for sample in samples]
        options = pa.ipc.IpcWriteOptions(compression=TEXT_CODEC)
    with disk_full(f"shard {unit}", cache), folder_beside(target, owner) as folder:
        if texts is None:
            _write_samples(folder / SAMPLES, samples, options)
        write_states(folder / STATES, arrays, list(records))
        if halved:
            write_halved(folder, halved)
        described = _describe(folder, flush=published_at(target) is None)
        record = ShardRecord(
            fingerprint=fingerprint,
            unit=unit,
            samples=len(samples),
            tokens=sum(len(sample.token_ids) for sample in samples),
            kept=sum(count_rows(sample.token_rows) for sample in samples),
            pairs=next((len(arrays[record.path]) for record in records if record.unit == "pairs"), None),
            learnt=count_learnt(samples),
            truncated=sum(sample.truncated for sample in samples),
            overlong=overlong,
            codecs=codecs_sha256(cache),
            costs=dict(costs or {}),
            texts=texts,
            files=described,
        )
        check_named(folder, record, records)
        (folder / RECORD).write_text(record.to_json(), encoding="utf-8")
        if commit_folder(folder, target, RECORD, kept=(SAMPLES,)):
            return record
    bring_shard(cache, unit)  # from where it is published
    return read_shard(target, fingerprint)


def _describe(folder: Path, flush: bool) -> dict[str, BlockedFile]:
    """Size and checksums of all files. With `flush`, the disk is at work meanwhile; what is published is not kept."""
    if not flush:
        return list_blocks(folder, {RECORD})
    with ThreadPoolExecutor(1) as beside:
        flushed = beside.submit(flush_folder, folder)
        described = list_blocks(folder, {RECORD})
        flushed.result()
    return described


def _without_tokens(sample: CachedSample) -> CachedSample:
    return replace(
        sample,
        token_ids=np.empty(0, np.int32),
        token_offsets=NO_SPANS,
        token_rows=NO_ROWS,
        words=NO_SPANS,
        noun_phrases=NO_SPANS,
        verb_phrases=NO_SPANS,
    )


def _write_samples(path: Path, samples: Sequence[CachedSample], options: pa.ipc.IpcWriteOptions) -> None:
    """One record batch: a reader maps it, unless it is compressed."""
    row_count = np.array([len(sample.token_ids) for sample in samples], dtype=np.int32)
    row_end = np.cumsum(row_count, dtype=np.int64)
    kept_count = np.array([count_rows(sample.token_rows) for sample in samples], dtype=np.int64)
    columns = {
        "sample_id": pa.array([sample.id for sample in samples], pa.string()),
        "text": pa.array([sample.text for sample in samples], pa.string()),
        "targets": make_lists([sample.targets for sample in samples], Offsets),
        "turns": pa.array([[asdict(turn) for turn in sample.turns] for sample in samples], Turns),
        "structure": pa.array([sample.structure for sample in samples], pa.string()),
        "truncated": pa.array([sample.truncated for sample in samples], pa.bool_()),
        "token_ids": make_lists([sample.token_ids for sample in samples], pa.list_(pa.int32())),
        "token_offsets": make_lists([sample.token_offsets for sample in samples], Offsets),
        "words": make_lists([sample.words for sample in samples], Offsets),
        "noun_phrases": make_lists([sample.noun_phrases for sample in samples], Offsets),
        "verb_phrases": make_lists([sample.verb_phrases for sample in samples], Offsets),
        "row_start": pa.array(row_end - row_count, pa.int64()),
        "row_count": pa.array(row_count, pa.int32()),
        "token_rows": make_lists([sample.token_rows for sample in samples], Offsets),
        "kept_start": pa.array(np.cumsum(kept_count) - kept_count, pa.int64()),
    }
    batch = pa.record_batch([columns[name] for name in SAMPLES_SCHEMA.names], schema=SAMPLES_SCHEMA)
    with pa.OSFile(os.fsencode(path), "wb") as sink, pa.ipc.new_file(sink, SAMPLES_SCHEMA, options=options) as writer:
        writer.write_batch(batch)

"""index.parquet: where each sample lies. Made of the shards, and written last: a cache that has one is complete."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from schemas.cache.checksums import Checksums, read_checksums, require_own_codecs, write_checksums
from schemas.cache.folders import SHARDS
from schemas.cache.manifest import INDEX, MANIFEST, CacheManifest
from schemas.cache.open_shard import read_samples
from schemas.cache.samples import INDEX_SCHEMA
from schemas.cache.sections import Section, list_sections, require_paired
from schemas.cache.seen_shard import Seen, SeenShard, look_at_shard
from schemas.cache.shard import SAMPLES, check_shard, shard_path
from schemas.cache.ways_out import redo
from schemas.errors import CacheError
from schemas.storage.atomic import disk_full
from schemas.storage.blocks import BlockedFile, check_blocks
from schemas.storage.file_record import check_file
from schemas.storage.published import file_beside
from schemas.storage.regular import require_regular

INDEX_KEY = b"stillroom-index"
ROWS_IN_GROUP = 1 << 15  # held in memory, in 100 bytes each; and a reader pays for every group


def write_index(cache: Path, manifest: CacheManifest, seen: Seen | None = None) -> int:
    """Make index.parquet anew from the shards, seal the cache, and return how many samples there are.

    Units that are `seen` are not looked at again; of all of them samples.arrow is read. Raises CacheError if a shard is
    missing or damaged, or if something was altered since the cache was sealed; ResourceError if the disk is full.
    """
    sealed = read_checksums(cache, manifest)
    if sealed is not None:
        sealed.check_manifest(cache)
        sealed.check_folders(cache)
    sections, known = list_sections(cache, manifest), seen or {}
    shards = [list[SeenShard]() for _ in sections]

    def look(section: Section, unit: int) -> SeenShard:
        found = known.get(section.number, {}).get(unit)
        if found is None:
            of_section = None if sealed is None else sealed.of(section.number)
            found = look_at_shard(section.folder, unit, section.manifest, of_section)
        require_own_codecs(section.folder, unit, found.record)
        shards[section.number].append(found)
        return found

    def list_rows() -> Iterator[pa.RecordBatch]:
        for unit in range(manifest.units):
            first, *added = [look(section, unit) for section in sections]
            texts = first.texts(shard_path(cache, unit))
            for section, shard in zip(sections[1:], added, strict=True):
                require_paired(section, unit, shard.record, texts.sha256, first.record)
            yield _index_rows(cache, unit, texts)

    with disk_full(INDEX, cache), file_beside(cache / INDEX) as path:
        samples = write_rows(path, list_rows())
        write_checksums(cache, path, shards)
    return samples


def write_rows(path: Path, shards: Iterable[pa.RecordBatch]) -> int:
    """Write the rows of all shards, of INDEX_SCHEMA, in groups of about ROWS_IN_GROUP; return how many there are."""
    total, held = 0, list[pa.RecordBatch]()
    with path.open("wb") as file, pq.ParquetWriter(file, INDEX_SCHEMA, compression="zstd") as index:

        def write_group() -> None:
            rows = pa.Table.from_batches(held, INDEX_SCHEMA)
            index.write_table(rows, row_group_size=max(1, len(rows)))
            held.clear()

        for rows in shards:
            held.append(rows)
            total += len(rows)
            if sum(map(len, held)) >= ROWS_IN_GROUP:
                write_group()
        if held:
            write_group()
    return total


def require_index(cache: Path, manifest: CacheManifest) -> Path:
    """index.parquet, which is written last. Raises CacheError: the cache is not complete, and by how much."""
    path = cache / INDEX
    if not path.exists():
        done = sum(1 for _ in (cache / SHARDS).glob("[0-9]*/shard.json"))  # a damaged count of units may be huge
        raise CacheError(
            f"{cache} is not complete: {done} of {manifest.units} shards are there; run `stillroom extract` again, "
            "it does only what is missing"
        )
    return path


def read_index(cache: Path, manifest: CacheManifest, sealed: Checksums | None) -> pa.Table:
    """The rows of index.parquet, in order of shard and row.

    Raises CacheError: not complete, altered, not readable, not of this format, empty, out of order.
    """
    path = require_index(cache, manifest)
    if sealed is None:
        require_shards(cache, manifest)
    else:
        check_file(path, sealed.index, f"run `stillroom reindex {cache}`")
    try:
        require_regular(path)
        # By its bytes, because Arrow takes no other name that is not UTF-8. Not through a Python file: a thread of
        # Arrow may still hold it when Python ends, and would abort the process.
        with pa.memory_map(os.fsencode(path)) as file:
            table = pq.read_table(file)
        table.validate(full=True)  # otherwise a damaged id fails only where it is used
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:  # the last, of a column's name
        raise CacheError(f"cannot read {path}: {error}; run `stillroom reindex {cache}`") from error
    # Not the whole metadata: Parquet writers add keys of their own.
    version = (table.schema.metadata or {}).get(INDEX_KEY)
    if not table.schema.equals(INDEX_SCHEMA) or version != INDEX_SCHEMA.metadata[INDEX_KEY]:
        raise CacheError(f"{path} is not an index of this format; run `stillroom reindex {cache}`")
    if len(table) == 0:
        raise CacheError(f"{cache} holds no samples")
    if not _is_in_order(table, manifest.units):
        raise CacheError(
            f"{path} does not list every row of a shard once and in order; run `stillroom reindex {cache}`"
        )
    if sealed is None:
        _require_empty(cache, manifest, np.setdiff1d(np.arange(manifest.units), table.column("shard").to_numpy()))
    return table


def _require_empty(cache: Path, manifest: CacheManifest, units: np.ndarray) -> None:
    """Shards that the index does not name have no samples. Raises CacheError."""
    for unit in units.tolist():
        held = check_shard(shard_path(cache, unit), manifest).samples
        if held:
            raise CacheError(
                f"{cache / INDEX} leaves out the {held} samples of shard {unit}; run `stillroom reindex {cache}`"
            )


def require_shards(cache: Path, manifest: CacheManifest) -> None:
    """Raises CacheError unless shards/ holds as many folders as cache.json says.

    Nothing else proves that number in a cache without checksums.
    """
    held = sum(1 for _ in (cache / SHARDS).glob("[!.]*"))
    if held != manifest.units:
        raise CacheError(f"{cache / SHARDS} holds {held} shards, {MANIFEST} says {manifest.units}; extract again")


def _is_in_order(table: pa.Table, units: int) -> bool:
    """Returns whether shards ascend, and the rows of each count up from 0."""
    if any(column.null_count for column in table.columns):
        return False
    shards, rows, tokens = (table.column(name).to_numpy() for name in ("shard", "row", "tokens"))
    if not (shards[0] >= 0 and shards[-1] < units and (tokens >= 0).all() and (np.diff(shards) >= 0).all()):
        return False
    starts = np.flatnonzero(np.diff(shards, prepend=-1))
    wanted = np.arange(len(rows)) - np.repeat(starts, np.diff(starts, append=len(rows)))
    return np.array_equal(rows, wanted)


def _index_rows(cache: Path, unit: int, texts: BlockedFile) -> pa.RecordBatch:
    path = shard_path(cache, unit)
    # Hashed before it is opened: Arrow may crash on what is damaged.
    check_blocks(path / SAMPLES, texts, redo(path))
    table, _ = read_samples(path / SAMPLES)
    ids, rows = table.column("sample_id"), len(table)
    try:
        ids.validate(full=True)
    except pa.ArrowException as error:
        raise CacheError(f"{path / SAMPLES}: column sample_id is damaged: {error}; {redo(path)}") from error
    # Copies, because the map goes with the table.
    columns = [
        pa.array(ids.to_pylist(), pa.string()),
        pa.array(np.full(rows, unit, dtype=np.int32)),
        pa.array(np.arange(rows, dtype=np.int32)),
        pa.array(table.column("row_count").to_numpy()),
    ]
    return pa.record_batch(columns, schema=INDEX_SCHEMA)

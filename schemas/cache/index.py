"""index.parquet: where each sample lies. Made of the shards, and written last: a cache that has one is complete."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from schemas.cache.manifest import INDEX, CacheManifest
from schemas.cache.samples import INDEX_SCHEMA
from schemas.cache.shard import SAMPLES, check_shard, shard_path
from schemas.errors import CacheError
from schemas.storage.atomic import disk_full, file_beside
from schemas.storage.fingerprint import hash_file

INDEX_KEY = b"stillroom-index"


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


def read_index(cache: Path, manifest: CacheManifest) -> pa.Table:
    """The rows of index.parquet. Raises CacheError: not complete, not readable, not of this format, empty."""
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

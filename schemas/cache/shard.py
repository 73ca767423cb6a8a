"""A shard: one work unit on disk. It exists if and only if its shard.json does, which is written last."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from schemas.cache.arrays import ArrayRecord
from schemas.cache.manifest import SHARDS, CacheManifest
from schemas.cache.states import array_files
from schemas.errors import CacheError
from schemas.storage.fingerprint import hash_file
from schemas.storage.record import read_record
from schemas.strict import Strict

RECORD = "shard.json"
SAMPLES = "samples.arrow"
STATES = "states.zarr"


class FileRecord(Strict):
    """Size and checksum of one file of a shard."""

    bytes: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, Field(description="Hex, as `sha256sum` prints it.")]


class ShardRecord(Strict):
    """The whole of shard.json."""

    format: Literal["stillroom-shard"] = "stillroom-shard"
    version: Literal[1] = 1
    fingerprint: Annotated[str, Field(description="The cache's fingerprint.")]
    unit: Annotated[int, Field(ge=0, description="Number of the work unit in the plan.")]
    samples: Annotated[int, Field(ge=0, description="Rows of samples.arrow.")]
    tokens: Annotated[int, Field(ge=0, description="That are kept: none in a cache of sentence embeddings alone.")]
    truncated: Annotated[int, Field(ge=0, description="Samples cut to the longest length.")]
    overlong: Annotated[int, Field(ge=0, description="Samples left out because they were too long.")]
    files: Annotated[dict[str, FileRecord], Field(description="Every other file of the shard, by relative path.")]

    def rows(self, array: ArrayRecord) -> int:
        """Rows of one array of this shard."""
        return self.samples if array.rows == "samples" else self.tokens


def shard_path(cache: Path, unit: int) -> Path:
    """The folder of one shard, e.g. CACHE/shards/00007."""
    return cache / SHARDS / f"{unit:05d}"


def read_shard(shard: Path, fingerprint: str) -> ShardRecord:
    """shard.json of one shard. Raises CacheError: none there, damaged, or of another cache."""
    record = read_record(shard / RECORD, ShardRecord, CacheError, f"there is no complete shard at {shard}")
    if record.fingerprint != fingerprint:
        raise CacheError(
            f"{shard} belongs to another cache ({record.fingerprint[:12]}, not {fingerprint[:12]}); remove it"
        )
    return record


def check_shard(shard: Path, manifest: CacheManifest) -> ShardRecord:
    """shard.json of a shard whose files are all named in it and have their sizes. Raises CacheError.

    Reads shard.json and asks for the sizes: cheap enough for every opening.
    """
    record = read_shard(shard, manifest.fingerprint)
    check_named(shard, record, manifest.arrays)
    check_sizes(shard, record)
    return record


def check_named(shard: Path, record: ShardRecord, arrays: Sequence[ArrayRecord]) -> None:
    """The record names samples.arrow and every array's numbers, so that none can be lost unseen. Raises CacheError."""
    numbers = [f"{STATES}/{file}" for array in arrays if record.rows(array) for file in array_files(array)]
    missing = [name for name in (SAMPLES, *numbers) if name not in record.files]
    if missing:
        raise CacheError(
            f"{shard / RECORD} does not name {', '.join(missing)}; remove {shard} and extract again: "
            "only that shard is redone"
        )


def list_files(folder: Path) -> dict[str, FileRecord]:
    """Size and checksum of every file below `folder` but shard.json, by relative path."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != RECORD)
    return {
        path.relative_to(folder).as_posix(): FileRecord(bytes=path.stat().st_size, sha256=hash_file(path))
        for path in paths
    }


def check_sizes(shard: Path, record: ShardRecord) -> None:
    """Every recorded file is there and has its size: cheap enough for every opening. Raises CacheError."""
    for name, file in record.files.items():
        path = shard / name
        size = path.stat().st_size if path.is_file() else None
        if size != file.bytes:
            state = "is missing" if size is None else f"has {size} bytes instead of {file.bytes}"
            raise CacheError(f"{path} {state}; remove {shard} and extract again: only that shard is redone")

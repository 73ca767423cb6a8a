"""A shard: one work unit on disk. It exists if and only if its shard.json does, which is written last."""

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from schemas.cache.arrays import ArrayRecord
from schemas.cache.encoding_cost import EncodingCost
from schemas.cache.folders import SHARDS
from schemas.cache.learnt import LearntRecord
from schemas.cache.manifest import CacheManifest
from schemas.cache.states import array_files
from schemas.cache.ways_out import redo
from schemas.errors import CacheError
from schemas.storage.blocks import BlockedFile
from schemas.storage.file_record import check_size
from schemas.storage.record import parse_record, read_content
from schemas.strict import Strict

RECORD = "shard.json"
SAMPLES = "samples.arrow"
STATES = "states.zarr"


class ShardRecord(Strict):
    """The whole of shard.json."""

    format: Literal["stillroom-shard"] = "stillroom-shard"
    version: Literal[1, 2] = 2
    fingerprint: Annotated[str, Field(description="The cache's fingerprint.")]
    unit: Annotated[int, Field(ge=0, description="Number of the work unit in the plan.")]
    samples: Annotated[int, Field(ge=0, description="Rows of samples.arrow.")]
    tokens: Annotated[int, Field(ge=0, description="That are kept: none in a cache of sentence embeddings alone.")]
    kept: Annotated[int | None, Field(ge=0, description="Tokens that have rows of hidden states; null: every one.")] = (
        None
    )
    pairs: Annotated[
        int | None, Field(ge=0, description="Pairs of tokens; left out where no array has rows of them.")
    ] = None
    learnt: Annotated[LearntRecord | None, Field(description="What there is to learn; null in earlier shards.")] = None
    truncated: Annotated[int, Field(ge=0, description="Samples cut to the longest length.")]
    overlong: Annotated[int, Field(ge=0, description="Samples left out because they were too long.")]
    codecs: Annotated[str | None, Field(description="SHA-256 of codecs/files.json, if its rows are encoded by it.")] = (
        None
    )
    costs: Annotated[dict[str, EncodingCost], Field(description="What encoding cost, by the array's path.")] = {}
    texts: Annotated[
        str | None, Field(description="Where arrays were added: SHA-256 of the samples.arrow that its rows are of.")
    ] = None
    files: Annotated[dict[str, BlockedFile], Field(description="Every other file of the shard, by relative path.")]

    def rows(self, array: ArrayRecord) -> int:
        """Rows of one array of this shard."""
        kept = self.tokens if self.kept is None else self.kept
        counts = {"samples": self.samples, "tokens": self.tokens, "kept": kept, "pairs": self.pairs or 0}
        return counts[array.unit]

    def to_json(self) -> str:
        """The text of shard.json; `pairs` and `texts` only where they say something."""
        unused = {name for name in ("pairs", "texts") if getattr(self, name) is None}
        return self.model_dump_json(indent=1, exclude=unused) + "\n"

    @property
    def file_bytes(self) -> int:
        """Bytes of its files, shard.json not counted."""
        return sum(file.bytes for file in self.files.values())

    @property
    def block_count(self) -> int | None:
        """How many blocks its files have; None if these have no checksums, as in format 1."""
        if any(file.blocks is None for file in self.files.values()):
            return None
        return sum(file.block_count for file in self.files.values())


def shard_path(cache: Path, unit: int) -> Path:
    """The folder of one shard, e.g. CACHE/shards/00007."""
    return cache / SHARDS / f"{unit:05d}"


def read_shard(shard: Path, fingerprint: str, sha256: str | None = None) -> ShardRecord:
    """shard.json of one shard, which hashes to `sha256` if that is known.

    Raises CacheError: none there, damaged, altered, or of another cache.
    """
    return _read(shard, fingerprint, sha256)[0]


def _read(shard: Path, fingerprint: str, sha256: str | None) -> tuple[ShardRecord, str]:
    return parse_shard(read_shard_content(shard), shard, fingerprint, sha256)


def read_shard_content(shard: Path) -> bytes:
    """What shard.json holds. Raises CacheError: none there, or it cannot be read."""
    try:
        return read_content(shard / RECORD, CacheError, f"there is no complete shard at {shard}")
    except CacheError as error:
        raise CacheError(f"{error}; {redo(shard)}") from error


def parse_shard(content: bytes, shard: Path, fingerprint: str, sha256: str | None) -> tuple[ShardRecord, str]:
    """What `read_shard` gives, of the `content` of shard.json, and its SHA-256. Raises CacheError."""
    path = shard / RECORD
    record, found = parse_record(content, ShardRecord, path, CacheError), hashlib.sha256(content).hexdigest()
    if sha256 not in (None, found):
        raise CacheError(f"{path} does not have its checksum; {redo(shard)}")
    if record.fingerprint != fingerprint:
        raise CacheError(
            f"{shard} belongs to another cache ({record.fingerprint[:12]}, not {fingerprint[:12]}); {redo(shard)}"
        )
    return record, found


def check_shard(shard: Path, manifest: CacheManifest, sha256: str | None = None) -> ShardRecord:
    """shard.json of a shard whose files are all named in it and have their sizes. Raises CacheError.

    Reads shard.json, which hashes to `sha256` if that is known, and asks for the sizes: cheap enough for every opening.
    """
    return find_shard(shard, manifest, sha256)[0]


def find_shard(shard: Path, manifest: CacheManifest, sha256: str | None = None) -> tuple[ShardRecord, str]:
    """The same, and the SHA-256 of shard.json."""
    record, found = _read(shard, manifest.fingerprint_of(int(shard.name)), sha256)
    if shard.name != f"{record.unit:05d}":
        raise CacheError(f"{shard} holds work unit {record.unit}: it stands in the place of another; {redo(shard)}")
    if manifest.rows == "all" and record.kept not in (None, record.tokens):
        raise CacheError(f"{shard / RECORD} says that {record.kept} of {record.tokens} tokens have rows; {redo(shard)}")
    if record.pairs is None and any(array.unit == "pairs" for array in manifest.arrays):
        raise CacheError(f"{shard / RECORD} does not say how many pairs of tokens have rows; {redo(shard)}")
    check_named(shard, record, manifest.arrays)
    way_out = redo(shard)
    for name, file in record.files.items():
        check_size(os.path.join(shard, name), file, way_out)
    return record, found


def bytes_of(records: Iterable[ShardRecord], array: ArrayRecord) -> int:
    """Of the files that hold an array's numbers, in all shards of these `records`."""
    names = [f"{STATES}/{file}" for file in array_files(array)]
    return sum(record.files[name].bytes for record in records if record.rows(array) for name in names)


def check_named(shard: Path, record: ShardRecord, arrays: Sequence[ArrayRecord]) -> None:
    """The record names samples.arrow, unless that stands elsewhere, and every array's numbers, so that none can be lost
    unseen. Raises CacheError."""
    numbers = [f"{STATES}/{file}" for array in arrays if record.rows(array) for file in array_files(array)]
    texts = [SAMPLES] if record.texts is None else []
    missing = [name for name in (*texts, *numbers) if name not in record.files]
    if missing:
        raise CacheError(f"{shard / RECORD} does not name {', '.join(missing)}; {redo(shard)}")

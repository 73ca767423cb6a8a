"""What is kept of a shard that was looked at."""

from pathlib import Path

import pytest

from schemas.cache.checksums import read_checksums
from schemas.cache.index import write_index
from schemas.cache.seen_shard import look_at_shard
from schemas.cache.writer import write_manifest
from schemas.errors import CacheError
from schemas.storage.blocks import describe_blocks
from schemas.storage.file_record import describe_file
from tests.shards import manifest, write


def test_a_shard_is_known_by_what_the_index_and_the_seal_need(tmp_path: Path) -> None:
    write_manifest(tmp_path, manifest(1))
    record, shard = write(tmp_path), tmp_path / "shards/00000"
    seen = look_at_shard(tmp_path, 0, manifest(1), None)
    assert seen.record == record.model_copy(update={"files": {}})
    assert seen.sha256 == describe_file(shard / "shard.json").sha256
    assert seen.samples == describe_blocks(shard / "samples.arrow")
    assert (seen.bytes, seen.blocks) == (record.file_bytes, len(record.files))
    write_index(tmp_path, manifest(1), {0: {0: seen}})
    sealed = read_checksums(tmp_path, manifest(1))
    assert sealed is not None and (sealed.shards, sealed.blocks) == ([seen.sha256], [seen.blocks])
    assert look_at_shard(tmp_path, 0, manifest(1), sealed) == seen
    (shard / "shard.json").write_text((shard / "shard.json").read_text() + "\n")
    with pytest.raises(CacheError, match=r"shard\.json does not have its checksum"):
        look_at_shard(tmp_path, 0, manifest(1), sealed)

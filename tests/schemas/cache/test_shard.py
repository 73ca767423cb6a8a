"""A shard's record: its files, its checksum, and whose it is."""

import hashlib
from pathlib import Path

import pytest

from schemas.cache.shard import ShardRecord, read_shard
from schemas.errors import CacheError
from schemas.storage.file_record import FileRecord, list_files
from schemas.storage.fingerprint import hash_file


def test_a_shard_knows_its_files(tmp_path: Path) -> None:
    shard = tmp_path / "00000"
    (shard / "states.zarr").mkdir(parents=True)
    (shard / "samples.arrow").write_bytes(b"abc")
    (shard / "states.zarr" / "zarr.json").write_bytes(b"{}")
    files = list_files(shard)
    assert files["samples.arrow"] == FileRecord(bytes=3, sha256=hashlib.sha256(b"abc").hexdigest())
    assert list(files) == ["samples.arrow", "states.zarr/zarr.json"]
    record = ShardRecord(fingerprint="f", unit=0, samples=1, tokens=2, truncated=0, overlong=0, files=files)
    (shard / "shard.json").write_text(record.model_dump_json())
    assert read_shard(shard, "f") == read_shard(shard, "f", hash_file(shard / "shard.json")) == record
    assert list_files(shard, {"shard.json"}) == files
    with pytest.raises(CacheError, match="another cache"):
        read_shard(shard, "g")
    with pytest.raises(CacheError, match=r"shard\.json does not have its checksum; remove .*00000 and extract again"):
        read_shard(shard, "f", "0" * 64)

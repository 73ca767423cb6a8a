"""shard.json: what makes a folder a shard of this cache, and what is said of one that is not."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from schemas.cache.arrays import ArrayRecord
from schemas.cache.shard import ShardRecord, check_shard, find_shard, read_shard, shard_path
from schemas.cache.ways_out import redo
from schemas.errors import CacheError
from schemas.storage.blocks import BlockedFile, list_blocks
from schemas.storage.fingerprint import hash_file
from tests.shards import PRINT, manifest, write


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    write(tmp_path, 3)
    return tmp_path / "shards" / "00003"


def edit(shard: Path, change: Callable[[dict[str, Any]], object]) -> None:
    record = json.loads((shard / "shard.json").read_text())
    change(record)
    (shard / "shard.json").write_text(json.dumps(record))


def test_a_shard_lies_under_its_number() -> None:
    assert shard_path(Path("c"), 7) == Path("c/shards/00007")
    assert shard_path(Path("c"), 123456) == Path("c/shards/123456")


def test_rows_are_samples_or_tokens(shard: Path) -> None:
    record = check_shard(shard, manifest(4), hash_file(shard / "shard.json"))
    pooled = ArrayRecord(kind="pooled", layer=1, width=4, dtype="float16", encoding="zstd")
    assert [record.rows(array) for array in (*manifest(4).arrays, pooled)] == [8, 8, 2]


def test_a_shard_of_another_cache_is_named(shard: Path) -> None:
    with pytest.raises(CacheError) as refused:
        read_shard(shard, "0123456789abcdef")
    assert str(refused.value) == f"{shard} belongs to another cache ({PRINT[:12]}, not 0123456789ab); {redo(shard)}"


def test_what_is_no_shard_is_named(tmp_path: Path) -> None:
    with pytest.raises(CacheError) as refused:
        read_shard(tmp_path / "00000", PRINT)
    way_out = redo(tmp_path / "00000")
    assert str(refused.value) == f"there is no complete shard at {tmp_path}/00000: there is no shard.json; {way_out}"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda r: r.update(unit=4), "{shard} holds work unit 4: it stands in the place of another; "),
        (
            lambda r: [r["files"].pop(name) for name in ("samples.arrow", "states.zarr/mass/2/c/0")],
            "{shard}/shard.json does not name samples.arrow, states.zarr/mass/2/c/0; ",
        ),
        (
            lambda r: r["files"]["samples.arrow"].update(bytes=3),
            "{shard}/samples.arrow has {size} bytes instead of 3; ",
        ),
        (lambda r: r["files"].update(more={"bytes": 0, "sha256": ""}), "{shard}/more is missing; "),
    ],
)
def test_a_shard_that_is_not_as_recorded_is_named(
    shard: Path, change: Callable[[dict[str, Any]], object], said: str
) -> None:
    edit(shard, change)
    with pytest.raises(CacheError) as refused:
        check_shard(shard, manifest(4))
    size = (shard / "samples.arrow").stat().st_size
    assert str(refused.value) == said.format(shard=shard, size=size) + redo(shard)


def test_a_record_that_was_altered_is_named(shard: Path) -> None:
    sha256 = hash_file(shard / "shard.json")
    edit(shard, lambda record: record.update(overlong=1))
    assert check_shard(shard, manifest(4)).overlong == 1  # nothing else tells
    with pytest.raises(CacheError) as refused:
        check_shard(shard, manifest(4), sha256)
    assert str(refused.value) == f"{shard}/shard.json does not have its checksum; {redo(shard)}"


def test_a_shard_without_tokens_needs_no_numbers(tmp_path: Path) -> None:
    write(tmp_path, 0, (), overlong=2)
    edit(tmp_path / "shards/00000", lambda r: [r["files"].pop(n) for n in list(r["files"]) if "/c/" in n])
    assert check_shard(tmp_path / "shards/00000", manifest(1)).overlong == 2


def test_a_shard_knows_its_files(tmp_path: Path) -> None:
    shard = tmp_path / "00000"
    (shard / "states.zarr").mkdir(parents=True)
    (shard / "samples.arrow").write_bytes(b"abc")
    (shard / "states.zarr" / "zarr.json").write_bytes(b"{}")
    files = list_blocks(shard)
    assert files["samples.arrow"] == BlockedFile(
        bytes=3, sha256=hashlib.sha256(b"abc").hexdigest(), blocks="78af5f94892f3950"
    )
    assert list(files) == ["samples.arrow", "states.zarr/zarr.json"]
    record = ShardRecord(fingerprint="f", unit=0, samples=1, tokens=2, truncated=0, overlong=0, files=files)
    (shard / "shard.json").write_text(record.model_dump_json())
    assert read_shard(shard, "f") == read_shard(shard, "f", hash_file(shard / "shard.json")) == record
    assert list_blocks(shard, {"shard.json"}) == files
    with pytest.raises(CacheError, match="another cache"):
        read_shard(shard, "g")
    with pytest.raises(CacheError, match=r"shard\.json does not have its checksum; run `stillroom repair "):
        read_shard(shard, "f", "0" * 64)


def test_what_is_asked_of_its_files(shard: Path) -> None:
    record = read_shard(shard, PRINT)
    sizes = [path.stat().st_size for path in shard.rglob("*") if path.is_file() and path.name != "shard.json"]
    assert record.file_bytes == sum(sizes) and record.block_count == len(sizes)
    assert find_shard(shard, manifest(4)) == (record, hash_file(shard / "shard.json"))

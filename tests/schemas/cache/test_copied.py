import hashlib
import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schemas.cache import copied
from schemas.cache.checksums import CHECKSUMS
from schemas.cache.manifest import read_manifest
from schemas.cache.ragged import RaggedRows
from schemas.cache.reader import Cache
from schemas.cache.shard import read_shard, shard_path
from schemas.cache.verify import ProvenShard, verify_shards
from schemas.errors import CacheError, StorageError
from schemas.storage.copies import open_copies
from schemas.storage.remote import locate_anywhere
from tests.buckets import Bucket
from tests.caches import encoded_cache, extend_here, extraction, smallest_cache


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cache = smallest_cache(tmp_path_factory.mktemp("cache"), 16, 60)
    assert read_manifest(cache).units > 3
    return cache


@pytest.fixture
def url(bucket: Bucket, local: Path) -> str:
    return bucket.upload(local, "caches/one")


def shards_here(cache: Path) -> list[str]:
    return sorted(path.name for path in (cache / "shards").glob("*"))


def require_same(copied: Cache, local: Path) -> None:
    """Every sample and every number of the two."""
    wanted = Cache(local)
    arrays = wanted.manifest.arrays
    assert copied.fingerprint == wanted.fingerprint
    for position in range(len(wanted)):
        assert copied.sample(position).equals(wanted.sample(position))
        rows = zip(copied.states(position, arrays), wanted.states(position, arrays), strict=True)
        assert all(is_same(left, right) for left, right in rows)


def is_same(left: Any, right: Any) -> bool:
    """Whether two arrays have the same rows, of one length or of several."""
    ragged = [isinstance(rows, RaggedRows) for rows in (left, right)]
    if any(ragged):
        return all(ragged) and np.array_equal(left.sizes, right.sizes) and np.array_equal(left.data, right.data)
    return np.array_equal(left, right)


def test_a_cache_is_read_from_its_url_shard_by_shard(bucket: Bucket, url: str, local: Path) -> None:
    cache = Cache(locate_anywhere(url))
    assert str(cache) == url
    assert shards_here(cache.path) == []
    cache.sample(0)
    assert shards_here(cache.path) == ["00000"]
    records = list(cache.records(range(cache.manifest.units)))
    assert shards_here(cache.path) == ["00000"]
    assert records == [read_shard(shard_path(local, unit), cache.fingerprint) for unit in range(len(records))]
    require_same(cache, local)
    for path in local.rglob("*"):
        assert path.is_dir() or (cache.path / path.relative_to(local)).read_bytes() == path.read_bytes()
    before = bucket.door.asked.total()
    require_same(Cache(cache.path), local)
    assert bucket.door.asked.total() == before + 1  # checksums.json


def test_errors_and_cut_answers_change_no_byte(bucket: Bucket, tmp_path: Path) -> None:
    encoded = encoded_cache(tmp_path / "encoded")
    there = locate_anywhere(bucket.upload(encoded, "caches/encoded"))
    with bucket.trouble(errors=0.05, cut=0.05):
        require_same(Cache(there), encoded)
    assert [path.name for path in sorted((there / "codecs").iterdir())] == [
        path.name for path in sorted((encoded / "codecs").iterdir())
    ]


def test_a_cache_larger_than_the_copy_may_be_is_read_whole(
    url: str, local: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = [sum(path.stat().st_size for path in shard.rglob("*") if path.is_file()) for shard in shards_of(local)]
    beside = sum(path.stat().st_size for path in local.rglob("*") if path.is_file()) - sum(sizes)
    monkeypatch.setenv("STILLROOM_CACHE_GIB", str((beside + sizes[0] + sizes[1] + 1000) / 2**30))
    copies = open_copies()
    monkeypatch.setattr(copies, "_in_hand", 1)
    cache = Cache(locate_anywhere(url))
    last = len(cache) - 1
    rows = cache.states(0, cache.manifest.arrays)
    for position in (last, 0, len(cache) // 2, last, 0):
        cache.sample(position)
        cache.states(position, cache.manifest.arrays)
    assert copies.let_go > 0
    assert len(shards_here(cache.path)) == 2 < cache.manifest.units
    require_same(cache, local)
    kept = Cache(local).states(0, cache.manifest.arrays)  # what was read before its shard went is still there
    assert all(map(is_same, rows, kept))


def shards_of(cache: Path) -> list[Path]:
    return [shard_path(cache, unit) for unit in range(read_manifest(cache).units)]


def test_a_shard_that_is_damaged_at_its_source_is_never_taken(bucket: Bucket, url: str) -> None:
    key = next(key for key in bucket.keys("caches/one/shards/00001") if "/c/" in key)
    held = bucket.get(key)
    bucket.put(key, held[:-1] + bytes([held[-1] ^ 1]))
    bucket.remove(next(key for key in bucket.keys("caches/one/shards/00002") if "/c/" in key))
    cache = Cache(locate_anywhere(url))
    found = list(verify_shards(cache.path, cache.manifest, cache._sealed))
    assert [isinstance(shard, ProvenShard) for shard in found] == [unit not in (1, 2) for unit in range(len(found))]
    assert "00001/states.zarr" in str(found[1])
    assert "does not have its checksum" in str(found[1])
    assert "is missing" in str(found[2])
    assert shards_here(cache.path) == [f"{unit:05d}" for unit in range(len(found)) if unit not in (1, 2)]
    assert ".partial" not in str(found)


def test_what_changed_at_its_source_is_never_mixed(bucket: Bucket, url: str, local: Path, tmp_path: Path) -> None:
    before = Cache(locate_anywhere(url))
    before.sample(0)
    (tmp_path / "other").mkdir()
    other = smallest_cache(tmp_path / "other", 15, 60)
    for key in bucket.keys("caches/one"):
        bucket.remove(key)
    bucket.upload(other, "caches/one")
    with pytest.raises(CacheError, match="does not have its checksum"):
        before.sample(len(before) - 1)
    require_same(Cache(locate_anywhere(url)), other)


def test_what_is_no_whole_cache_is_told_as_for_a_folder(bucket: Bucket, url: str) -> None:
    path = locate_anywhere(url)
    with pytest.raises(CacheError, match=r"is not a stillroom cache: there is no cache\.json"):
        Cache(path.parent)
    bucket.remove(f"caches/one/{CHECKSUMS}")
    with pytest.raises(CacheError, match=r"has no checksums\.json"):
        Cache(path)
    bucket.remove("caches/one/index.parquet")
    bucket.remove("caches/one/shards/00000/shard.json")
    units = json.loads(bucket.get("caches/one/cache.json"))["units"]
    with pytest.raises(CacheError, match=f"is not complete: {units - 1} of {units} shards are there"):
        Cache(path)


def test_no_record_makes_a_file_outside_its_shard(bucket: Bucket, url: str, tmp_path: Path) -> None:
    key = "caches/one/shards/00000/shard.json"
    held, seal = json.loads(bucket.get(key)), json.loads(bucket.get(f"caches/one/{CHECKSUMS}"))
    for name in ("../../../../evil", "/evil", "a/../../evil", "", "shard.json", "a\0b"):
        record = held | {"files": held["files"] | {name: held["files"]["samples.arrow"]}}
        bucket.put(key, json.dumps(record).encode())
        seal["shards"][0] = hashlib.sha256(bucket.get(key)).hexdigest()
        bucket.put(f"caches/one/{CHECKSUMS}", json.dumps(seal).encode())
        with pytest.raises(CacheError, match="which is no file of its folder"):
            Cache(locate_anywhere(url)).sample(0)
    assert list(tmp_path.rglob("evil")) == []


def test_a_source_that_is_gone_is_told(url: str, bucket: Bucket, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    with bucket.trouble(errors=1.0), pytest.raises(StorageError, match="cannot read s3://"):
        Cache(locate_anywhere(url))


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """No test goes on with the seal of another."""
    yield
    copied._opened.clear()


def test_arrays_that_were_added_are_copied_shard_by_shard_too(bucket: Bucket, local: Path, tmp_path: Path) -> None:
    """From their own folder: what is read of the others copies nothing of it."""
    shutil.copytree(local.parent, tmp_path, dirs_exist_ok=True)
    states, batching = {"hidden": [0, 1], "mass": [1]}, {"unit_tokens": 60}
    corpus = tmp_path / "corpus.jsonl"
    extend_here(extraction(tmp_path / "cache", tmp_path / "teacher", corpus, states=states, batching=batching))
    copied = Cache(locate_anywhere(bucket.upload(tmp_path / "cache", "caches/grown")))
    copied.states(0, [copied.array("hidden", 1)])
    assert shards_here(copied.path) == ["00000"] and shards_here(copied.path / "added/1") == []
    copied.states(0, [copied.array("hidden", 0)])
    assert shards_here(copied.path / "added/1") == ["00000"]
    require_same(copied, tmp_path / "cache")
    assert [record.files.keys() for record in copied.records([1])] == [
        record.files.keys() for record in Cache(tmp_path / "cache").records([1])
    ]

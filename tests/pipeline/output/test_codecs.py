"""CACHE/codecs against the shards beside it."""

import shutil
from pathlib import Path

import pytest

from pipeline.output.codecs import needs_calibration, require_same_codecs
from pipeline.output.shards import check_shards
from schemas.cache.checksums import CHECKSUMS
from schemas.cache.codec_files import CODEC_FOLDER, codecs_sha256
from schemas.cache.index import write_index
from schemas.cache.manifest import read_manifest
from schemas.cache.reader import Cache
from schemas.cache.seen_shard import SeenShard, look_at_shard
from schemas.cache.verify import verify_shards
from schemas.errors import CacheError
from tests.caches import encoded_cache, small_cache


def seen(cache: Path) -> dict[int, SeenShard]:
    manifest = read_manifest(cache)
    return {unit: look_at_shard(cache, unit, manifest, None) for unit in range(manifest.units)}


def test_calibrated_codecs_are_needed_until_they_are_there(tmp_path: Path) -> None:
    cache = encoded_cache(tmp_path / "encoded")
    manifest = read_manifest(cache)
    assert not needs_calibration(cache, manifest)
    assert all(shard.record.codecs == codecs_sha256(cache) is not None for shard in seen(cache).values())
    require_same_codecs(cache, manifest, seen(cache))
    (cache / CODEC_FOLDER).rename(cache / "elsewhere")
    assert needs_calibration(cache, manifest)
    require_same_codecs(cache, manifest, seen(cache))  # nothing is said of what is not there


def test_other_tables_than_those_of_the_shards_are_refused(tmp_path: Path) -> None:
    cache = encoded_cache(tmp_path / "encoded")
    path = cache / CODEC_FOLDER / "files.json"
    whole = path.read_text()
    path.write_text(whole.replace('"version": 1', '"version":  1'))
    manifest = read_manifest(cache)
    with pytest.raises(CacheError, match=r"shard 0 was encoded by other tables than .*codecs holds"):
        require_same_codecs(cache, manifest, seen(cache))
    path.unlink()
    with pytest.raises(CacheError, match=r"codecs was not calibrated for this cache, or not to its end"):
        require_same_codecs(cache, manifest, {})
    path.write_text(whole.replace(manifest.fingerprint, "0" * 64))
    with pytest.raises(CacheError, match=r"codecs was not calibrated for this cache"):
        require_same_codecs(cache, manifest, {})


def test_what_is_not_the_shards_own_is_neither_sealed_nor_read_nor_the_end_of_a_shard(tmp_path: Path) -> None:
    cache = encoded_cache(tmp_path / "encoded")
    other = encoded_cache(tmp_path / "other", encoding="tiny")
    manifest = read_manifest(cache)
    (cache / CHECKSUMS).unlink()
    shutil.rmtree(cache / CODEC_FOLDER)
    shutil.copytree(other / CODEC_FOLDER, cache / CODEC_FOLDER)
    said = r"shard 0 was encoded by other tables than .*codecs holds; .* no shard is redone"
    with pytest.raises(CacheError, match=said):
        write_index(cache, manifest)
    with pytest.raises(CacheError, match=said):
        Cache(cache).sample(0)
    assert all(isinstance(found, CacheError) for found in verify_shards(cache, manifest, None))
    assert check_shards(cache, manifest, None)[1] == {}


def test_exact_states_need_none(tmp_path: Path) -> None:
    cache = small_cache(tmp_path)
    assert not needs_calibration(cache, read_manifest(cache))
    assert codecs_sha256(cache) is None

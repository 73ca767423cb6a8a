"""CACHE/codecs against the shards beside it."""

from pathlib import Path

import pytest

from pipeline.output.codecs import needs_calibration, require_same_codecs
from schemas.cache.codec_files import CODEC_FOLDER, codecs_sha256
from schemas.cache.manifest import read_manifest
from schemas.cache.seen_shard import SeenShard, look_at_shard
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
    require_same_codecs(cache, seen(cache))
    (cache / CODEC_FOLDER).rename(cache / "elsewhere")
    assert needs_calibration(cache, manifest)
    require_same_codecs(cache, seen(cache))  # nothing is said of what is not there


def test_other_tables_than_those_of_the_shards_are_refused(tmp_path: Path) -> None:
    cache = encoded_cache(tmp_path / "encoded")
    path = cache / CODEC_FOLDER / "files.json"
    path.write_text(path.read_text().replace('"version": 1', '"version":  1'))
    with pytest.raises(CacheError, match=r"shard 0 was encoded by other tables than .*codecs holds"):
        require_same_codecs(cache, seen(cache))


def test_exact_states_need_none(tmp_path: Path) -> None:
    cache = small_cache(tmp_path)
    assert not needs_calibration(cache, read_manifest(cache))
    assert codecs_sha256(cache) is None

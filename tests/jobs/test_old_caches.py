"""Caches made before there were checksums: what was altered in them is neither sealed nor learnt from."""

import json
import shutil
from pathlib import Path

import pytest

from jobs.extract import rebuild_index
from schemas.cache.checksums import CHECKSUMS
from schemas.cache.manifest import read_manifest
from schemas.cache.teacher_files import check_teacher_files, record_teacher_files
from schemas.errors import CacheError
from schemas.models.teacher_tokenizer import load_teacher_tokenizer

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "cache-1"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return Path(shutil.copytree(GOLDEN, tmp_path / "cache"))


def swap_two_tokens(cache: Path) -> None:
    path = cache / "teacher" / "tokenizer.json"
    content = json.loads(path.read_text())
    vocabulary = content["model"]["vocab"]
    first, second = list(vocabulary)[-2:]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    path.write_text(json.dumps(content))


def test_a_whole_one_is_sealed(cache: Path) -> None:
    rebuild_index(cache)
    assert (cache / CHECKSUMS).exists()
    assert load_teacher_tokenizer(cache, read_manifest(cache)) is not None


def test_an_altered_tokenizer_is_neither_sealed_nor_loaded(cache: Path) -> None:
    swap_two_tokens(cache)
    with pytest.raises(CacheError, match="is not the one that the cache was made with"):
        rebuild_index(cache)
    assert not (cache / CHECKSUMS).exists()
    with pytest.raises(CacheError, match="is not the one that the cache was made with"):
        load_teacher_tokenizer(cache, read_manifest(cache))


def test_swapped_shards_are_not_sealed(cache: Path) -> None:
    shards = cache / "shards"
    (shards / "00000").rename(shards / "x")
    (shards / "00001").rename(shards / "00000")
    (shards / "x").rename(shards / "00001")
    with pytest.raises(CacheError, match="00000 holds work unit 1: it stands in the place of another"):
        rebuild_index(cache)


def test_a_file_that_was_added_to_the_teachers_is_refused(cache: Path) -> None:
    record_teacher_files(cache / "teacher")
    assert check_teacher_files(cache)
    (cache / "teacher" / "added_tokens.json").write_text('{"the": 5}')
    with pytest.raises(CacheError, match=r"does not name added_tokens\.json, which was added"):
        check_teacher_files(cache)

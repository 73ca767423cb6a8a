"""teacher/files.json: nothing of the folder is missing, altered or added without a word."""

import hashlib
from pathlib import Path

import pytest

from schemas.cache.teacher_files import (
    check_teacher_file,
    check_teacher_files,
    read_teacher_files,
    record_teacher_files,
)
from schemas.errors import CacheError

TEXT = """{
 "format": "stillroom-teacher",
 "version": 1,
 "files": {
  "sub/config.json": {
   "bytes": 2,
   "sha256": "%s"
  },
  "unembedding.safetensors": {
   "bytes": 3,
   "sha256": "%s"
  }
 }
}
"""


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    (tmp_path / "teacher/sub").mkdir(parents=True)
    (tmp_path / "teacher/sub/config.json").write_bytes(b"{}")
    (tmp_path / "teacher/unembedding.safetensors").write_bytes(b"abc")
    record_teacher_files(tmp_path / "teacher")
    return tmp_path


def said(cache: Path, weights: bool = True) -> str:
    with pytest.raises(CacheError) as refused:
        check_teacher_files(cache, weights)
    return str(refused.value)


def test_every_file_is_recorded(cache: Path) -> None:
    sums = tuple(hashlib.sha256(content).hexdigest() for content in (b"{}", b"abc"))
    assert (cache / "teacher/files.json").read_bytes() == (TEXT % sums).encode()
    assert check_teacher_files(cache) is True and check_teacher_files(cache, weights=False) is True
    record = read_teacher_files(cache)
    assert record is not None and list(record.files) == ["sub/config.json", "unembedding.safetensors"]


def test_a_folder_of_before_says_nothing(cache: Path) -> None:
    (cache / "teacher/files.json").unlink()
    (cache / "teacher/added").touch()
    assert read_teacher_files(cache) is None and check_teacher_files(cache) is False
    check_teacher_file(cache, "whatever", None)


def test_altered_weights_are_found_where_weights_are_read(cache: Path) -> None:
    (cache / "teacher/unembedding.safetensors").write_bytes(b"abd")
    assert check_teacher_files(cache, weights=False) is True
    teacher = cache / "teacher"
    assert said(cache) == (
        f"{teacher}/unembedding.safetensors does not have its checksum; remove {teacher} and extract again: "
        "no shard is redone"
    )


def test_altered_and_missing_files_are_found_in_any_case(cache: Path) -> None:
    teacher = cache / "teacher"
    way_out = f"remove {teacher} and extract again: no shard is redone"
    (teacher / "sub/config.json").write_bytes(b"[]")
    for weights in (True, False):
        assert said(cache, weights) == f"{teacher}/sub/config.json does not have its checksum; {way_out}"
    (teacher / "sub/config.json").unlink()
    assert said(cache, False) == f"{teacher}/sub/config.json is missing; {way_out}"


def test_an_added_file_is_found(cache: Path) -> None:
    for name in ("sub/z", "sub/b"):
        (cache / "teacher" / name).touch()
    assert said(cache, False) == (
        f"{cache}/teacher/files.json does not name sub/b, which was added to the folder; remove it"
    )


def test_a_file_that_is_asked_for_must_be_named(cache: Path) -> None:
    record, teacher = read_teacher_files(cache), cache / "teacher"
    check_teacher_file(cache, "sub/config.json", record)
    with pytest.raises(CacheError) as refused:
        check_teacher_file(cache, "embeddings.safetensors", record)
    assert str(refused.value) == (
        f"{teacher}/files.json does not name embeddings.safetensors; remove {teacher} and extract again: "
        "no shard is redone"
    )


def test_a_damaged_record_is_named(cache: Path) -> None:
    (cache / "teacher/files.json").write_text("{}")
    assert said(cache) == (
        f"{cache}/teacher/files.json: this is None version None; this stillroom reads 'stillroom-teacher' version 1"
    )

"""files.json of teacher/ and codecs/: nothing of the folder is missing, altered or added without a word."""

import hashlib
from pathlib import Path

import pytest

from schemas.cache.codec_files import CODEC_FILES
from schemas.cache.teacher_files import TEACHER_FILES
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
    TEACHER_FILES.write_record(tmp_path / "teacher")
    return tmp_path


def said(cache: Path, weights: bool = True) -> str:
    with pytest.raises(CacheError) as refused:
        TEACHER_FILES.check(cache, weights)
    return str(refused.value)


def test_every_file_is_recorded(cache: Path) -> None:
    sums = tuple(hashlib.sha256(content).hexdigest() for content in (b"{}", b"abc"))
    assert (cache / "teacher/files.json").read_bytes() == (TEXT % sums).encode()
    assert TEACHER_FILES.check(cache) is True and TEACHER_FILES.check(cache, weights=False) is True
    record = TEACHER_FILES.read_record(cache)
    assert record is not None and list(record.files) == ["sub/config.json", "unembedding.safetensors"]


def test_a_folder_of_before_says_nothing(cache: Path) -> None:
    (cache / "teacher/files.json").unlink()
    (cache / "teacher/added").touch()
    assert TEACHER_FILES.read_record(cache) is None and TEACHER_FILES.check(cache) is False
    TEACHER_FILES.check_file(cache, "whatever", None)


def test_altered_weights_are_found_where_weights_are_read(cache: Path) -> None:
    (cache / "teacher/unembedding.safetensors").write_bytes(b"abd")
    assert TEACHER_FILES.check(cache, weights=False) is True
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
    record, teacher = TEACHER_FILES.read_record(cache), cache / "teacher"
    TEACHER_FILES.check_file(cache, "sub/config.json", record)
    with pytest.raises(CacheError) as refused:
        TEACHER_FILES.check_file(cache, "embeddings.safetensors", record)
    assert str(refused.value) == (
        f"{teacher}/files.json does not name embeddings.safetensors; remove {teacher} and extract again: "
        "no shard is redone"
    )


def test_a_damaged_record_is_named(cache: Path) -> None:
    (cache / "teacher/files.json").write_text("{}")
    assert said(cache) == (
        f"{cache}/teacher/files.json: this is None version None; this stillroom reads 'stillroom-teacher' version 1"
    )


def test_another_folder_has_a_format_of_its_own(cache: Path) -> None:
    (cache / "codecs").mkdir()
    (cache / "codecs/hidden-2.safetensors").write_bytes(b"abc")
    assert CODEC_FILES.describe(cache) is None
    CODEC_FILES.write_record(cache / "codecs")
    content = (cache / "codecs/files.json").read_bytes()
    assert content.startswith(b'{\n "format": "stillroom-codecs",\n "version": 1,\n "files": {\n')
    sealed = CODEC_FILES.describe(cache)
    assert sealed is not None and sealed.sha256 == hashlib.sha256(content).hexdigest()
    CODEC_FILES.check_record(cache, sealed)
    CODEC_FILES.check_record(cache, None)
    assert CODEC_FILES.check(cache)
    (cache / "codecs/files.json").write_bytes((cache / "teacher/files.json").read_bytes())
    with pytest.raises(
        CacheError, match=r"codecs/files\.json has \d+ bytes instead of \d+; remove .*/codecs and extract"
    ):
        CODEC_FILES.check_record(cache, sealed)
    with pytest.raises(CacheError, match=r"this is 'stillroom-teacher' version 1; .* reads 'stillroom-codecs'"):
        CODEC_FILES.check(cache)

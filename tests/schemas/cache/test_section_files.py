"""Records and files of a section: each checked before it is used, and once."""

import json
from pathlib import Path

import pytest

from schemas.cache.checksums import read_checksums
from schemas.cache.index import write_index
from schemas.cache.section_files import SectionFiles
from schemas.cache.sections import list_sections
from schemas.cache.writer import write_manifest
from schemas.errors import CacheError
from tests.files import damage
from tests.shards import manifest, write


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    write_manifest(tmp_path, manifest(1))
    write(tmp_path, 0, (3, 5))
    write_index(tmp_path, manifest(1))
    return tmp_path


def test_a_record_is_read_once_and_kept_without_its_checksums(cache: Path) -> None:
    files = SectionFiles(list_sections(cache, manifest(1))[0], read_checksums(cache, manifest(1)))
    kept, whole = files.record(0), files.whole_record(0)
    assert whole.files and kept == whole.model_copy(update={"files": {}, "costs": {}})
    (cache / "shards/00000/shard.json").unlink()
    assert files.record(0) is kept and files.whole_record(0) is whole


def test_a_file_is_compared_when_it_is_touched(cache: Path) -> None:
    files = SectionFiles(list_sections(cache, manifest(1))[0], read_checksums(cache, manifest(1)))
    damage(cache / "shards/00000/samples.arrow")
    with pytest.raises(CacheError, match=r"samples\.arrow does not have its checksum"):
        files.files(0).require("samples.arrow")


def test_a_shard_that_was_added_is_no_shard_of_texts(cache: Path) -> None:
    """Its record is sound, and names no samples.arrow."""
    path = cache / "shards/00000/shard.json"
    said = json.loads(path.read_text())
    del said["files"]["samples.arrow"]
    path.write_text(json.dumps(said | {"texts": "0" * 64}))
    (cache / "checksums.json").unlink()
    for section in list_sections(cache, manifest(1)):
        with pytest.raises(CacheError, match=r"shards/00000 has no samples\.arrow; run `stillroom repair "):
            SectionFiles(section, None).record(0)
    with pytest.raises(CacheError, match=r"has no samples\.arrow"):
        write_index(cache, manifest(1))

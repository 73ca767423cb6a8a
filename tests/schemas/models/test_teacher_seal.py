"""Before a cache of before is sealed, its teacher's files are proven and then covered by checksums."""

import hashlib
import shutil
from pathlib import Path

import pytest

from schemas.cache.manifest import read_manifest
from schemas.cache.teacher_files import TEACHER_FILES
from schemas.errors import CacheError
from schemas.models.teacher_seal import cover_teacher

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "cache-1"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return Path(shutil.copytree(GOLDEN, tmp_path / "cache"))


def test_every_file_is_covered_once(cache: Path) -> None:
    before = {path.name: path.read_bytes() for path in (cache / "teacher").iterdir()}
    assert "files.json" not in before
    cover_teacher(cache, read_manifest(cache))
    record = TEACHER_FILES.read_record(cache)
    assert record is not None
    wanted = {name: (len(content), hashlib.sha256(content).hexdigest()) for name, content in before.items()}
    assert {name: (file.bytes, file.sha256) for name, file in record.files.items()} == wanted
    written = (cache / "teacher" / "files.json").read_bytes()
    cover_teacher(cache, read_manifest(cache))
    assert (cache / "teacher" / "files.json").read_bytes() == written


def test_what_is_covered_already_is_verified(cache: Path) -> None:
    cover_teacher(cache, read_manifest(cache))
    (cache / "teacher" / "added.json").write_text("{}")
    with pytest.raises(
        CacheError, match=r"files\.json does not name added\.json, which was added to the folder; remove it"
    ):
        cover_teacher(cache, read_manifest(cache))


@pytest.mark.parametrize("damage", ["cut", "missing"])
def test_a_damaged_head_is_not_believed(cache: Path, damage: str) -> None:
    path = cache / "teacher" / "unembedding.safetensors"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-2])
    else:
        path.unlink()
    with pytest.raises(CacheError, match=r"unembedding\.safetensors"):
        cover_teacher(cache, read_manifest(cache))
    assert not (cache / "teacher" / "files.json").exists()

"""Sealing a cache again: nothing that was altered is sealed, a full disk is named, and what is damaged is named."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.cache.checksums import read_checksums
from schemas.cache.index import read_index, write_index
from schemas.cache.samples import INDEX_SCHEMA
from schemas.cache.teacher_files import TEACHER_FILES
from schemas.cache.ways_out import redo
from schemas.cache.writer import write_manifest
from schemas.errors import CacheError, ResourceError
from tests.shards import manifest, write


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """The first of its three shards is empty."""
    (tmp_path / "teacher").mkdir()
    (tmp_path / "teacher/config.json").write_text("{}")
    TEACHER_FILES.write_record(tmp_path / "teacher")
    write_manifest(tmp_path, manifest(3))
    write(tmp_path, 0, (), overlong=1)
    write(tmp_path, 1, (3, 5))
    write(tmp_path, 2, (2,))
    assert write_index(tmp_path, manifest(3)) == 3
    return tmp_path


def refused(cache: Path, kind: type[Exception] = CacheError) -> str:
    before = (cache / "index.parquet").read_bytes()
    with pytest.raises(kind) as caught:
        write_index(cache, manifest(3))
    assert (cache / "index.parquet").read_bytes() == before and not list(cache.glob(".*"))
    return str(caught.value)


def test_an_empty_first_shard_is_passed_over(cache: Path) -> None:
    for sealed in (read_checksums(cache, manifest(3)), None):
        table = read_index(cache, manifest(3), sealed)
        assert table.column("shard").to_pylist() == [1, 1, 2] and table.column("row").to_pylist() == [0, 1, 0]


REDO = "run `stillroom repair {cache}`: it drops damaged shards that can be made again, and says how"


@pytest.mark.parametrize(
    ("name", "way_out"),
    [
        ("cache.json", "run `stillroom extract` with the config of {cache}: it writes that file anew, and no shard"),
        ("teacher/files.json", "remove {cache}/teacher and extract again: no shard is redone"),
        ("shards/00001/shard.json", REDO),
        ("shards/00002/samples.arrow", REDO),
    ],
)
def test_what_was_altered_is_not_sealed(cache: Path, name: str, way_out: str) -> None:
    path = cache / name
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    if name.endswith("shard.json"):
        path.write_bytes(path.read_bytes()[:-1] + b" ")  # still JSON, of the same length
    assert refused(cache) == f"{path} does not have its checksum; {way_out.format(cache=cache)}"


def test_a_shard_that_is_missing_is_not_sealed(cache: Path) -> None:
    (cache / "shards/00002/shard.json").unlink()
    shard = cache / "shards/00002"
    assert refused(cache) == f"there is no complete shard at {shard}: there is no shard.json; {redo(shard)}"


@contextmanager
def full_disk(limit: int) -> Iterator[None]:
    """No file may grow beyond `limit` bytes, which stands for a full disk: the same calls fail."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="needs limits on file size, as POSIX has them")
def test_a_full_disk_is_named(cache: Path) -> None:
    rest = "(File too large); make room and run the same command again: what is complete stays, only the rest is done"
    with full_disk(400):
        assert refused(cache, ResourceError) == f"no space left to write index.parquet of {cache} {rest}"
        with pytest.raises(ResourceError) as caught:
            write_manifest(cache, manifest(3).model_copy(update={"provenance": {"python": "3.11"}}))
    assert str(caught.value) == f"no space left to write cache.json of {cache} {rest}"
    assert write_index(cache, manifest(3)) == 3


@pytest.mark.parametrize("column", range(4))
def test_an_index_that_may_lack_a_value_is_of_another_format(cache: Path, column: int) -> None:
    table = pq.read_table(cache / "index.parquet")
    field = INDEX_SCHEMA.field(column).with_nullable(True)
    values = [*table.column(column).to_pylist()[:2], None]
    pq.write_table(table.set_column(column, field, pa.array(values, field.type)), cache / "index.parquet")
    with pytest.raises(CacheError) as caught:
        read_index(cache, manifest(3), None)
    assert str(caught.value) == (
        f"{cache}/index.parquet is not an index of this format; run `stillroom reindex {cache}`"
    )


def test_an_id_that_is_no_utf_8_is_named(cache: Path) -> None:
    table = pq.read_table(cache / "index.parquet")
    broken = pa.StringArray.from_buffers(3, pa.array([0, 1, 2, 3], pa.int32()).buffers()[1], pa.py_buffer(b"a\xffb"))
    pq.write_table(table.set_column(0, INDEX_SCHEMA.field(0), broken), cache / "index.parquet")
    with pytest.raises(CacheError) as caught:
        read_index(cache, manifest(3), None)
    assert str(caught.value).startswith(f"cannot read {cache}/index.parquet: ")
    assert str(caught.value).endswith(f"; run `stillroom reindex {cache}`")


def test_an_altered_index_is_named_in_a_sealed_cache(cache: Path) -> None:
    path, sealed = cache / "index.parquet", read_checksums(cache, manifest(3))
    content = bytearray(path.read_bytes())
    content[10] ^= 1
    path.write_bytes(content)
    with pytest.raises(CacheError) as caught:
        read_index(cache, manifest(3), sealed)
    assert str(caught.value) == f"{path} does not have its checksum; run `stillroom reindex {cache}`"


def test_checksums_of_another_number_of_shards_are_named(cache: Path) -> None:
    with pytest.raises(CacheError) as caught:
        read_checksums(cache, manifest(4))
    assert str(caught.value) == (
        f"{cache}/checksums.json knows 3 shards, cache.json says 4; remove the former and run "
        f"`stillroom reindex {cache}`"
    )


def test_damaged_checksums_are_named(cache: Path) -> None:
    (cache / "checksums.json").write_text("{")
    with pytest.raises(CacheError) as caught:
        read_checksums(cache, manifest(3))
    assert str(caught.value).startswith(f"{cache}/checksums.json is damaged: not JSON (")
    assert str(caught.value).endswith(f"; remove it and run `stillroom reindex {cache}`, which makes it anew")


def test_checksums_are_written_as_they_are_documented(cache: Path) -> None:
    sealed = read_checksums(cache, manifest(3))
    assert sealed is not None and sealed.teacher is not None
    text = (cache / "checksums.json").read_text()
    assert text == sealed.model_dump_json(indent=1, exclude={"added"}) + "\n"
    assert text.startswith('{\n "format": "stillroom-checksums",\n "version": 3,\n "manifest": {\n')

"""The index: every row of every shard once and in order, or one message that says what to do."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
import pytest

import schemas.cache.index
from schemas.cache.index import read_index, require_index, require_shards, write_index, write_rows
from schemas.cache.samples import INDEX_SCHEMA
from schemas.cache.ways_out import redo
from schemas.cache.writer import write_manifest
from schemas.errors import CacheError
from tests.shards import manifest, write


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Two shards of two and three samples, indexed."""
    write_manifest(tmp_path, manifest(2))
    write(tmp_path, 0, (3, 5))
    write(tmp_path, 1, (2, 1, 4))
    assert write_index(tmp_path, manifest(2)) == 5
    return tmp_path


def test_rows_are_listed_by_shard(cache: Path) -> None:
    table = read_index(cache, manifest(2), None)
    assert table.schema.equals(INDEX_SCHEMA)
    assert table.to_pydict() == {
        "sample_id": ["u0-0", "u0-1", "u1-0", "u1-1", "u1-2"],
        "shard": [0, 0, 1, 1, 1],
        "row": [0, 1, 0, 1, 2],
        "tokens": [3, 5, 2, 1, 4],
    }


def test_a_shard_that_the_index_leaves_out_is_named(cache: Path) -> None:
    table = read_index(cache, manifest(2), None)
    pq.write_table(table.filter(pa.compute.equal(table["shard"], 0)), cache / "index.parquet")
    with pytest.raises(CacheError, match="leaves out the 3 samples of shard 1; run `stillroom reindex"):
        read_index(cache, manifest(2), None)


def test_a_cache_without_an_index_is_not_complete(cache: Path) -> None:
    (cache / "index.parquet").unlink()
    with pytest.raises(CacheError) as refused:
        require_index(cache, manifest(7))
    assert str(refused.value) == (
        f"{cache} is not complete: 2 of 7 shards are there; run `stillroom extract` again, it does only what is missing"
    )


def test_shards_are_as_many_as_planned(cache: Path) -> None:
    require_shards(cache, manifest(2))
    (cache / "shards" / ".DS_Store").touch()  # not a shard
    require_shards(cache, manifest(2))
    with pytest.raises(CacheError) as refused:
        require_shards(cache, manifest(3))
    assert str(refused.value) == f"{cache}/shards holds 2 shards, cache.json says 3; extract again"


def test_a_damaged_shard_is_not_indexed(cache: Path) -> None:
    path = cache / "shards" / "00001" / "samples.arrow"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(CacheError) as refused:
        write_index(cache, manifest(2))
    assert str(refused.value) == f"{path} does not have its checksum; {redo(path)}"


def with_columns(**columns: list[int]) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        for name, values in columns.items():
            at = table.schema.get_field_index(name)
            table = table.set_column(at, INDEX_SCHEMA.field(name), pa.array(values, pa.int32()))
        return table.cast(INDEX_SCHEMA)

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (with_columns(row=[0, 1, 0, 2, 1]), "does not list every row of a shard once and in order"),
        (with_columns(row=[1, 0, 0, 1, 2]), "does not list every row of a shard once and in order"),
        (with_columns(row=[1, 2, 0, 1, 2]), "does not list every row of a shard once and in order"),
        (with_columns(shard=[1, 1, 0, 0, 0]), "does not list every row of a shard once and in order"),
        (with_columns(shard=[0, 0, 2, 2, 2]), "does not list every row of a shard once and in order"),
        (
            with_columns(shard=[0, 0, 1, 1, 2], row=[0, 1, 0, 1, 0]),
            "does not list every row of a shard once and in order",
        ),
        (
            with_columns(shard=[-1, 0, 1, 1, 1], row=[0, 0, 0, 1, 2]),
            "does not list every row of a shard once and in order",
        ),
        (with_columns(shard=[-1, -1, 1, 1, 1]), "does not list every row of a shard once and in order"),
        (with_columns(tokens=[3, 5, -2, 1, 4]), "does not list every row of a shard once and in order"),
        (lambda table: table.slice(0, 0), "holds no samples"),
        (lambda table: table.drop_columns("tokens"), "is not an index of this format; run `stillroom reindex"),
        (lambda table: table.replace_schema_metadata({}), "is not an index of this format; run `stillroom reindex"),
    ],
)
def test_an_index_that_is_not_of_these_shards(cache: Path, change: Callable[[pa.Table], pa.Table], said: str) -> None:
    pq.write_table(change(pq.read_table(cache / "index.parquet")), cache / "index.parquet")
    with pytest.raises(CacheError, match=said):
        read_index(cache, manifest(2), None)


def test_a_shard_of_no_samples_is_passed_over(cache: Path) -> None:
    write(cache, 2, (), overlong=2)
    (cache / "checksums.json").unlink()
    assert write_index(cache, manifest(3)) == 5
    assert len(read_index(cache, manifest(3), None)) == 5


@pytest.mark.parametrize(("sizes", "groups"), [([3, 4, 5, 1], [7, 6]), ([9], [9]), ([], []), ([0, 0], [0]), ([5], [5])])
def test_shards_share_row_groups(
    tmp_path: Path, sizes: list[int], groups: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schemas.cache.index, "ROWS_IN_GROUP", 6)
    numbers = [pa.array(range(size), pa.int32()) for size in sizes]
    batches = [
        pa.record_batch([pa.array(map(str, range(size))), rows, rows, rows], schema=INDEX_SCHEMA)
        for size, rows in zip(sizes, numbers, strict=True)
    ]
    assert write_rows(tmp_path / "index", iter(batches)) == sum(sizes)
    file = pq.ParquetFile(tmp_path / "index")
    assert [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)] == groups
    assert file.read().equals(pa.Table.from_batches(batches, INDEX_SCHEMA))
    assert file.schema_arrow.metadata[b"stillroom-index"] == b"1"

"""A shard on disk: its bytes, its commit, what is left when the disk is full, and the index made of shards."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.output.shards import check_shards
from schemas.cache.index import write_index
from schemas.cache.samples import INDEX_SCHEMA, SAMPLES_SCHEMA
from schemas.cache.shard import read_shard, shard_path
from schemas.cache.states import map_array
from schemas.cache.writer import write_manifest
from schemas.errors import CacheError
from tests.shards import ARRAYS, PRINT, manifest, states, write
from tests.stored import stored


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_what_was_given_is_read_back_by_plain_arrow_and_zarr(tmp_path: Path) -> None:
    record = write(tmp_path)
    shard = shard_path(tmp_path, 0)
    assert record == read_shard(shard, PRINT)
    assert (record.samples, record.tokens, record.truncated, record.overlong) == (2, 8, 1, 0)
    table = pa.ipc.open_file(pa.memory_map(str(shard / "samples.arrow"))).read_all()
    assert table.schema.equals(SAMPLES_SCHEMA, check_metadata=True) and table.column("text").num_chunks == 1
    assert table.select(["sample_id", "row_start", "row_count", "targets", "turns", "truncated"]).to_pylist() == [
        {"sample_id": "u0-0", "row_start": 0, "row_count": 3, "targets": [[2, 7]], "turns": [], "truncated": False},
        {"sample_id": "u0-1", "row_start": 3, "row_count": 5, "targets": [[2, 9]], "turns": [], "truncated": True},
    ]
    second = table.slice(1).to_pylist()[0]
    assert second["text"] == "é 漢🙂xxxxx" and second["token_ids"] == [1, 2, 3, 4, 5]
    assert second["token_offsets"] == [[i, i + 1] for i in range(5)]
    assert (second["words"], second["noun_phrases"], second["verb_phrases"]) == ([[0, 1], [2, 4]], [], [[0, 1]])
    for array in ARRAYS:
        np.testing.assert_array_equal(stored(shard / "states.zarr", array.path), states(8)[array.path])
        np.testing.assert_array_equal(map_array(shard / "states.zarr", array, 8), states(8)[array.path])
    # Mapped, not read: no buffer of the text column was allocated.
    assert pa.total_allocated_bytes() < 1 << 20


def test_bytes_depend_on_content_alone(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / name)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert len(files(tmp_path / "a")) == 9  # arrow, shard.json, two chunks, zarr.json of two arrays and three groups
    write(tmp_path / "c", overlong=1)
    assert files(tmp_path / "a") != files(tmp_path / "c")


def test_a_committed_shard_wins(tmp_path: Path) -> None:
    first = write(tmp_path)
    before = files(tmp_path)
    assert write(tmp_path, lengths=(9, 9)) == first
    assert files(tmp_path) == before
    assert os.listdir(tmp_path / "shards") == ["00000"]


def test_an_empty_unit_is_a_shard_too(tmp_path: Path) -> None:
    record = write(tmp_path, lengths=(), overlong=7)
    assert (record.samples, record.tokens, record.overlong) == (0, 0, 7)
    write(tmp_path, 1)
    write_manifest(tmp_path, manifest(2))
    assert write_index(tmp_path, manifest(2)) == 2


def test_the_index_finds_every_sample(tmp_path: Path) -> None:
    write(tmp_path, 0)
    write(tmp_path, 1, lengths=(1, 2, 3))
    write_manifest(tmp_path, manifest(2))
    assert write_index(tmp_path, manifest(2)) == 5
    table = pq.read_table(tmp_path / "index.parquet")
    assert table.schema.equals(INDEX_SCHEMA, check_metadata=True)
    assert table.to_pydict() == {
        "sample_id": ["u0-0", "u0-1", "u1-0", "u1-1", "u1-2"],
        "shard": [0, 0, 1, 1, 1],
        "row": [0, 1, 0, 1, 2],
        "tokens": [3, 5, 1, 2, 3],
    }
    before = (tmp_path / "index.parquet").read_bytes()
    write_index(tmp_path, manifest(2))
    assert (tmp_path / "index.parquet").read_bytes() == before
    with pytest.raises(CacheError, match=r"knows 2 shards, cache\.json says 3"):
        write_index(tmp_path, manifest(3))
    assert sorted(os.listdir(tmp_path)) == ["cache.json", "checksums.json", "index.parquet", "shards"]


FULL = """
import resource, sys
from pathlib import Path
from tests.shards import write
cache = Path(sys.argv[1])
write(cache, 0)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
write(cache, 1, lengths=(4000, 4000))
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="needs limits on file size, as POSIX has them")
@pytest.mark.parametrize("limit", [50_000, 150_000])  # in Arrow's file, in a Zarr chunk
def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path, limit: int) -> None:
    """The limit on file size stands for a full disk: the same write calls fail, with another errno."""
    command = [sys.executable, "-c", FULL, str(tmp_path), str(limit)]
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "ResourceError: no space left to write shard 1 of" in done.stderr.splitlines()[-1]
    assert os.listdir(tmp_path / "shards") == ["00000"]
    assert check_shards(tmp_path, manifest(1))[1] == {}


def test_other_errors_of_the_system_pass(tmp_path: Path) -> None:
    (tmp_path / "shards").write_text("a file in the way")
    with pytest.raises(FileExistsError):
        write(tmp_path)


def test_a_shard_names_all_that_a_reader_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record that lost a file is damage; one that never had it is not written."""
    write(tmp_path)
    path = tmp_path / "shards" / "00000" / "shard.json"
    record = json.loads(path.read_text())
    del record["files"]["states.zarr/mass/2/c/0"]
    path.write_text(json.dumps(record))
    assert "does not name states.zarr/mass/2/c/0" in check_shards(tmp_path, manifest(1))[1][0]
    monkeypatch.setattr("schemas.cache.writer._write_samples", lambda path, samples, options: 8)
    with pytest.raises(CacheError, match=r"does not name samples\.arrow"):
        write(tmp_path, 1)
    assert os.listdir(tmp_path / "shards") == ["00000"]

"""What is found in a cache that is being made: whole shards, damaged ones, leftovers."""

import os
from pathlib import Path

from pipeline.output.shards import check_shards, remove_temporaries
from tests.shards import manifest, write


def test_damage_is_found_and_leftovers_go(tmp_path: Path) -> None:
    for unit in range(3):
        write(tmp_path, unit)
    chunk = tmp_path / "shards" / "00001" / "states.zarr" / "mass" / "2" / "c" / "0"
    chunk.write_bytes(chunk.read_bytes()[:-4])
    (tmp_path / "shards" / "00002" / "shard.json").unlink()
    (tmp_path / "shards" / ".00003-x.tmp").mkdir()
    (tmp_path / ".index.parquet-y.tmp").mkdir()
    whole, damaged = check_shards(tmp_path, manifest(5))
    assert list(whole) == [0] and list(damaged) == [1, 2]
    assert "has 28 bytes instead of 32" in damaged[1] and "no complete shard" in damaged[2]
    remove_temporaries(tmp_path)
    assert sorted(os.listdir(tmp_path / "shards")) == ["00000", "00001", "00002"]
    assert os.listdir(tmp_path) == ["shards"]

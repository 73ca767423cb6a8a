"""What is found in a cache that is being made: whole shards, damaged ones, leftovers."""

import os
import tempfile
from pathlib import Path

import pytest

from pipeline.output.shards import check_shards, remove_temporaries, require_open
from schemas.errors import ResourceError
from tests.files import as_no_root
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


@pytest.mark.parametrize("place", ["added", "added/1", "added/1/shards"])
def test_a_folder_of_added_arrays_that_is_a_link_to_what_is_not_there_is_not_empty(place: str) -> None:
    """Nor is a closed one: what lies in neither can be told."""
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are root's alone
        _require_both(Path(name), place)


def _require_both(tmp_path: Path, place: str) -> None:
    shards = tmp_path / "cache" / "added" / "1" / "shards"
    shards.mkdir(parents=True)
    require_open(shards)
    with as_no_root(tmp_path):
        shards.parents[1].chmod(0)
        with pytest.raises(ResourceError, match=f"^{shards.parents[1]} is closed to this user"):
            require_open(shards)
        shards.parents[1].chmod(0o700)
    (tmp_path / "cache" / place).rename(tmp_path / "another disk")
    (tmp_path / "cache" / place).symlink_to(tmp_path / "not mounted")
    with pytest.raises(ResourceError, match=f"^{tmp_path}/cache/{place} is a link to {tmp_path}/not mounted, which is"):
        require_open(shards)

"""Files of a shard: none is given away before it was compared, with its blocks or, in format 1, as a whole."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from schemas.cache.checked_files import CheckedFiles
from schemas.cache.checked_map import CheckedMap
from schemas.cache.shard import ShardRecord, read_shard, shard_path
from schemas.cache.shard_files import ShardFiles
from schemas.errors import CacheError
from tests.shards import PRINT, manifest, states, write

HIDDEN = "hidden/2/c/0/0"
TRUTH = states(8, 0)["hidden/2"]


def counted(record: ShardRecord, asked: list[int]) -> Callable[[], ShardRecord]:
    def give() -> ShardRecord:
        asked.append(1)
        return record

    return give


@pytest.fixture
def record(tmp_path: Path) -> ShardRecord:
    write(tmp_path)
    return read_shard(shard_path(tmp_path, 0), PRINT)


def files_of(cache: Path, record: ShardRecord, checked: CheckedFiles, asked: list[int]) -> ShardFiles:
    return ShardFiles(shard_path(cache, 0), 0, checked, counted(record, asked))


def flip(cache: Path, name: str) -> None:
    path = shard_path(cache, 0) / name
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.unlink()
    path.write_bytes(content)


def as_format_1(record: ShardRecord) -> ShardRecord:
    files = {name: file.model_copy(update={"blocks": None}) for name, file in record.files.items()}
    return record.model_copy(update={"files": files})


def test_blocks_are_checked_when_they_are_touched(tmp_path: Path, record: ShardRecord) -> None:
    checked, asked = CheckedFiles(manifest(1), [record.block_count or 0]), list[int]()
    found = files_of(tmp_path, record, checked, asked).below("states.zarr").map(HIDDEN, np.dtype("<u2"), TRUTH.shape)
    assert isinstance(found, CheckedMap) and not any(checked.block_flags[:])
    np.testing.assert_array_equal(found[2:5], TRUTH[2:5])
    place = list(record.files).index(f"states.zarr/{HIDDEN}")  # every file has one block
    assert [number for number, flag in enumerate(checked.block_flags[:]) if flag] == [place]
    assert (0, f"states.zarr/{HIDDEN}") in checked
    again = files_of(tmp_path, record, checked, asked := []).below("states.zarr")
    assert isinstance(again.map(HIDDEN, np.dtype("<u2"), TRUTH.shape), np.ndarray) and asked == []


@pytest.mark.parametrize("blocks", [True, False])
def test_damage_is_named_when_it_is_touched(tmp_path: Path, record: ShardRecord, blocks: bool) -> None:
    flip(tmp_path, f"states.zarr/{HIDDEN}")
    if not blocks:
        record = as_format_1(record)
    checked = CheckedFiles(manifest(1), [record.block_count or 0] if blocks else None)
    files = files_of(tmp_path, record, checked, []).below("states.zarr")
    with pytest.raises(CacheError, match=rf"states\.zarr/{HIDDEN} does not have its checksum.*; remove .*00000 and"):
        files.map(HIDDEN, np.dtype("<u2"), TRUTH.shape)[:]
    with pytest.raises(CacheError, match=rf"states\.zarr/{HIDDEN} does not have its checksum; remove .*00000 and ext"):
        files.require(HIDDEN)
    assert (0, f"states.zarr/{HIDDEN}") not in checked


def test_a_file_without_checksums_of_blocks_is_compared_whole(tmp_path: Path, record: ShardRecord) -> None:
    old = as_format_1(record)
    assert record.block_count == len(record.files) and old.block_count is None
    checked, asked = CheckedFiles(manifest(1)), list[int]()
    for _ in range(2):
        found = files_of(tmp_path, old, checked, asked).below("states.zarr").map(HIDDEN, np.dtype("<u2"), TRUTH.shape)
        np.testing.assert_array_equal(found[:], TRUTH)
    assert len(asked) == 1


def test_whole_files_are_compared_once(tmp_path: Path, record: ShardRecord) -> None:
    checked, asked = CheckedFiles(manifest(1)), list[int]()
    files = files_of(tmp_path, record, checked, asked)
    files.compare("samples.arrow")
    assert (0, "samples.arrow") not in checked
    files.require("samples.arrow")
    files.require("samples.arrow")
    assert (0, "samples.arrow") in checked and len(asked) == 2

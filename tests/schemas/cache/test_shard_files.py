"""Files of a shard: none is given away before it was compared, with its blocks or, in format 1, as a whole."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import schemas.cache.checked_map
import schemas.storage.blocks
from schemas.cache.arrays import ArrayRecord
from schemas.cache.checked_files import CheckedFiles
from schemas.cache.checked_map import CheckedMap
from schemas.cache.ragged import RaggedArray
from schemas.cache.shard import ShardRecord, read_shard, shard_path
from schemas.cache.shard_files import ShardFiles
from schemas.cache.states import Values, open_array
from schemas.cache.writer import write_shard
from schemas.errors import CacheError
from tests.ragged import listed, ragged
from tests.shards import ARRAYS, PRINT, manifest, samples, states, write

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
    with pytest.raises(CacheError, match=rf"states\.zarr/{HIDDEN} does not have its checksum.*; run `stillroom repair"):
        files.map(HIDDEN, np.dtype("<u2"), TRUTH.shape)[:]
    with pytest.raises(CacheError, match=rf"states\.zarr/{HIDDEN} does not have its checksum; run `stillroom repair"):
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


SMALL = 64  # bytes of a block here
STRINGS = [bytes([row % 251]) * (row % 7) for row in range(1000)]
RAGGED = ArrayRecord(kind="hidden", layer=2, width=16, dtype="bfloat16", encoding="rvq")


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ShardRecord:
    """A shard of ragged rows in many small blocks."""
    for module in (schemas.storage.blocks, schemas.cache.checked_map):
        monkeypatch.setattr(module, "BLOCK_BYTES", SMALL)
    arrays: dict[str, Values] = {"hidden/2": ragged(STRINGS), "mass/2": np.zeros(1000, "<f4")}
    return write_shard(tmp_path, 0, samples("a", [1000]), arrays, [RAGGED, ARRAYS[1]], PRINT, 0)


def opened(cache: Path, record: ShardRecord) -> tuple[RaggedArray, CheckedFiles]:
    whole = manifest(1).model_copy(update={"arrays": [RAGGED, ARRAYS[1]]})
    checked = CheckedFiles(whole, [record.block_count or 0])
    found = open_array(files_of(cache, record, checked, []).below("states.zarr"), RAGGED, 1000)
    assert isinstance(found, RaggedArray)
    return found, checked


def test_of_ragged_rows_the_blocks_of_all_three_files_are_checked(tmp_path: Path, small: ShardRecord) -> None:
    array, checked = opened(tmp_path, small)
    assert listed(array.rows(500, 3)) == STRINGS[500:503]
    data = sum(map(len, STRINGS[:500]))
    touched = {
        "data": {data // SMALL},
        "sizes": set(range(448 * 2 // SMALL, 503 * 2 // SMALL + 1)),
        "starts": {7 * 8 // SMALL, 16 * 8 // SMALL},  # of row 448, and the end
    }
    place, flags = 0, checked.block_flags
    for name, file in small.files.items():
        blocks = {block for block in range(file.block_count) if flags[place + block]}
        part = name.split("/")[-3] if name.endswith("/c/0") else ""
        assert blocks == touched.get(part, set()), name
        place += file.block_count


@pytest.mark.parametrize("part", ["data", "sizes", "starts"])
def test_ragged_rows_beside_a_damaged_block_are_read(tmp_path: Path, small: ShardRecord, part: str) -> None:
    path = tmp_path / f"shards/00000/states.zarr/hidden/2/{part}/c/0"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 2
    path.write_bytes(content)
    array, _ = opened(tmp_path, small)
    refused = 0
    for row, text in enumerate(STRINGS):
        try:
            assert listed(array.rows(row, 1)) == [text]
        except CacheError as error:
            assert str(error).startswith(f"{path} does not have its checksum in the ")
            refused += 1
    assert 0 < refused < 600

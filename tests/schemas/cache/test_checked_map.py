"""Slices of a mapped file: each is the array's, and no block that it touches goes unchecked."""

import mmap
from pathlib import Path

import numpy as np
import pytest

import schemas.cache.checked_map
from schemas.cache.checked_map import CheckedMap, FileBlocks
from schemas.errors import CacheError
from schemas.storage.blocks import BLOCK_BYTES, describe_blocks, hash_block

WIDTH = 3  # float32 columns: 12 bytes, which no block is a multiple of
ROWS = 3 * BLOCK_BYTES // 12
FIRST = 2  # other files' blocks stand before


@pytest.fixture(scope="module")
def values() -> np.ndarray:
    return np.arange(ROWS * WIDTH, dtype="<f4").reshape(ROWS, WIDTH)


@pytest.fixture(scope="module")
def sums(values: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("map") / "values"
    values.tofile(path)
    found = describe_blocks(path)
    assert found.blocks is not None and found.block_count == 3
    return found.blocks


class Opened:
    """A map, and what was checked of it."""

    def __init__(self, values: np.ndarray, sums: str):
        self.flags, self.whole = mmap.mmap(-1, FIRST + 3 + 1), 0
        self.map = CheckedMap(values, FileBlocks(Path("file"), sums, self.flags, FIRST, self.count, "way out"))

    def count(self) -> None:
        self.whole += 1

    @property
    def checked(self) -> list[int]:
        assert self.flags[:FIRST] == b"\0" * FIRST and self.flags[-1] == 0  # those of other files
        return [block for block in range(3) if self.flags[FIRST + block]]


EDGE = BLOCK_BYTES // 12  # the row that lies in two blocks


@pytest.mark.parametrize(
    ("start", "stop", "blocks"),
    [
        (0, 1, [0]),
        (0, EDGE, [0]),
        (0, EDGE + 1, [0, 1]),
        (EDGE, EDGE + 1, [0, 1]),
        (EDGE + 1, EDGE + 2, [1]),
        (ROWS - 1, ROWS, [2]),
        (0, ROWS, [0, 1, 2]),
        (0, 0, []),
        (ROWS, ROWS, []),
    ],
)
def test_blocks_that_rows_touch_are_checked(
    values: np.ndarray, sums: str, start: int, stop: int, blocks: list[int]
) -> None:
    opened = Opened(values, sums)
    found = opened.map[start:stop]
    assert np.shares_memory(found, values) or start == stop
    np.testing.assert_array_equal(found, values[start:stop])
    assert opened.checked == blocks and len(opened.map) == ROWS


def test_each_block_is_hashed_once(values: np.ndarray, sums: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed = list[int]()

    def hash_counted(content: memoryview) -> str:
        hashed.append(len(content))
        return hash_block(content)

    monkeypatch.setattr(schemas.cache.checked_map, "hash_block", hash_counted)
    opened = Opened(values, sums)
    random = np.random.default_rng(0)
    for start in random.integers(0, ROWS - 50, 300).tolist():
        np.testing.assert_array_equal(opened.map[start : start + 50], values[start : start + 50])
    assert hashed == [BLOCK_BYTES] * 3 and opened.checked == [0, 1, 2] and opened.whole == 1


def test_what_another_process_checked_is_not_hashed(
    values: np.ndarray, sums: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(content: memoryview) -> str:
        raise AssertionError

    monkeypatch.setattr(schemas.cache.checked_map, "hash_block", refuse)
    opened = Opened(values, sums)
    opened.flags[FIRST : FIRST + 3] = b"\1\1\1"
    opened.map[:]
    assert opened.whole == 1


@pytest.mark.parametrize("bit", [0, 8 * BLOCK_BYTES - 1, 8 * BLOCK_BYTES, 8 * 3 * BLOCK_BYTES - 1])
def test_a_bit_that_is_wrong_is_never_given_away(values: np.ndarray, sums: str, bit: int) -> None:
    damaged = values.copy()
    damaged.reshape(-1).view(np.uint8)[bit // 8] ^= 1 << bit % 8
    opened, block = Opened(damaged, sums), bit // 8 // BLOCK_BYTES
    row = bit // 8 // 12
    for _ in range(2):  # it is not forgotten that it was wrong
        with pytest.raises(CacheError) as refused:
            opened.map[row : row + 1]
        assert str(refused.value) == (
            f"file does not have its checksum in the 4 MiB from byte {block * BLOCK_BYTES:,} on; way out"
        )
    other = (block + 1) % 3 * EDGE + 1
    np.testing.assert_array_equal(opened.map[other : other + 1], values[other : other + 1])
    with pytest.raises(CacheError):
        opened.map[:]
    assert block not in opened.checked and opened.whole == 0

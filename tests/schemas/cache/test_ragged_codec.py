"""Ragged rows on disk are three plain Zarr arrays; what is damaged or contradicts itself is named."""

import json
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from hypothesis import HealthCheck, given, settings

from schemas.cache.arrays import ArrayRecord
from schemas.cache.codec import CODECS
from schemas.cache.ragged import RaggedRows
from schemas.cache.states import array_files, check_array, map_array, write_states
from schemas.cache.ways_out import redo
from schemas.errors import CacheError
from tests.ragged import LISTS, listed, ragged
from tests.stored import stored

HIDDEN = ArrayRecord(kind="hidden", layer=2, width=4, dtype="bfloat16", encoding="rvq")
ROWS = [b"abc", b"", b"d"] * 43


@pytest.fixture
def states(tmp_path: Path) -> Path:
    write_states(tmp_path / "states.zarr", {"hidden/2": ragged(ROWS)}, [HIDDEN])
    return tmp_path / "states.zarr"


def change(states: Path, file: str, values: dict[str, Any]) -> Path:
    path = states / file / "zarr.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    return path


def said(states: Path) -> str:
    with pytest.raises(CacheError) as refused:
        check_array(states, HIDDEN, len(ROWS))
    return str(refused.value)


def test_any_reader_of_zarr_finds_the_rows(states: Path) -> None:
    group = zarr.open_group(states, mode="r")["hidden/2"]
    assert dict(group.attrs) == {"dtype": "bfloat16", "encoding": "rvq", "kind": "hidden", "layer": 2, "width": 4}
    data, sizes, starts = (stored(states, f"hidden/2/{name}") for name in ("data", "sizes", "starts"))
    assert data.dtype == np.uint8 and data.tobytes() == b"".join(ROWS)
    assert sizes.dtype == np.uint16 and sizes.tolist() == [3, 0, 1] * 43
    assert starts.dtype == np.int64 and starts.tolist() == [0, 21 * 4 + 3, 42 * 4 + 3, 43 * 4]
    assert array_files(HIDDEN) == ["hidden/2/data/c/0", "hidden/2/sizes/c/0", "hidden/2/starts/c/0"]
    assert (states / "hidden/2/data/c/0").read_bytes() == b"".join(ROWS)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(rows=LISTS)
def test_what_is_written_is_read(tmp_path: Path, rows: list[bytes]) -> None:
    folder = Path(mkdtemp(dir=tmp_path), "states.zarr")
    write_states(folder, {"hidden/2": ragged(rows)}, [HIDDEN])
    check_array(folder, HIDDEN, len(rows))
    array = map_array(folder, HIDDEN, len(rows))
    assert len(array) == len(rows) and listed(array[0 : len(rows)]) == rows
    assert all((folder / file).is_file() for file in array_files(HIDDEN)) or not rows


@pytest.mark.filterwarnings("error")
def test_what_is_read_may_be_written_to(states: Path) -> None:
    rows = map_array(states, HIDDEN, len(ROWS))[3:6]
    torch.from_numpy(rows.data)[:] = 0
    torch.from_numpy(rows.sizes)[:] = 0
    assert listed(map_array(states, HIDDEN, len(ROWS))[3:6]) == ROWS[3:6]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((2, 4), "<u2"), "hidden/2: ndarray is not RaggedRows"),
        (RaggedRows(np.zeros(2, np.int8), np.array([2], "<u2")), "hidden/2: int8 of uint16 is not uint8 of uint16"),
        (RaggedRows(np.zeros(2, np.uint8), np.array([2])), "hidden/2: uint8 of int64 is not uint8 of uint16"),
        (RaggedRows(np.zeros(2, np.uint8), np.array([3], "<u2")), "hidden/2: rows of 3 bytes, and there are 2"),
    ],
)
def test_what_is_no_rows_is_not_written(tmp_path: Path, values: Any, message: str) -> None:
    with pytest.raises(ValueError) as refused:
        write_states(tmp_path / "s", {"hidden/2": values}, [HIDDEN])
    assert str(refused.value) == message


def test_damage_is_named(states: Path) -> None:
    check_array(states, HIDDEN, len(ROWS))
    data = states / "hidden/2/data/c/0"
    data.write_bytes(b"short")
    assert said(states) == f"{data} has 5 bytes instead of 172; {redo(data)}"
    starts = states / "hidden/2/starts/c/0"
    starts.write_bytes(np.array([0, 87, 171, -1], "<i8").tobytes())
    assert said(states) == f"{starts} says that the rows end at -1; {redo(starts)}"
    starts.unlink()
    assert said(states) == f"cannot read {starts}: No such file or directory; {redo(starts)}"


def test_sizes_that_contradict_the_starts_are_named(states: Path) -> None:
    (states / "hidden/2/sizes/c/0").write_bytes(np.array([0, 3, 1] * 42 + [1, 1, 2], "<u2").tobytes())
    array = states / "hidden/2"
    assert said(states) == f"{array}: the sizes of its rows contradict where they start; {redo(array)}"


@pytest.mark.parametrize(
    ("file", "values", "message"),
    [
        ("hidden/2", {"node_type": "array"}, "says node_type 'array', and it is group"),
        ("hidden/2", {"attributes": {}}, "says attributes {}, and it is {'dtype': 'bfloat16'"),
        ("hidden/2/data", {"shape": [1]}, "says shape [1], and it is [172]"),
        ("hidden/2/sizes", {"data_type": "int16"}, "says data_type 'int16', and it is uint16"),
        ("hidden/2/starts", {"codecs": ["zstd"]}, "says codecs ['zstd'], and it is ['bytes']"),
    ],
)
def test_metadata_of_another_array_is_named(states: Path, file: str, values: dict[str, Any], message: str) -> None:
    path = change(states, file, values)
    assert said(states).startswith(f"{path} {message}") and said(states).endswith(f"; {redo(path)}")


def test_a_shard_without_rows_has_no_numbers_to_read(tmp_path: Path) -> None:
    write_states(tmp_path / "s", {"hidden/2": ragged([])}, [HIDDEN])
    check_array(tmp_path / "s", HIDDEN, 0)
    empty = map_array(tmp_path / "nowhere", HIDDEN, 0)
    assert len(empty) == 0 and len(empty[0:0]) == 0 and len(empty[0:0].data) == 0


def test_states_kept_as_they_are_must_be_finite() -> None:
    """Of four bfloat16 numbers: a row of eight bytes. Any other row is codes."""
    codec = CODECS["rvq"]
    sound, infinite = np.array([0x3F80] * 4, "<u2").tobytes(), np.array([0, 0, 0x7F80, 0], "<u2").tobytes()
    rows = ragged([sound, infinite, infinite[:7], b"", infinite, sound])
    assert codec.are_finite(HIDDEN, rows).tolist() == [True, False, True, True, False, True]
    assert codec.are_finite(HIDDEN, ragged([])).tolist() == []

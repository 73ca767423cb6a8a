"""Codes of one byte per value and the row's scale behind them: one plain array of d + 4 columns."""

import json
from pathlib import Path

import numpy as np
import pytest

from schemas.cache.arrays import ArrayRecord
from schemas.cache.codec import CODECS
from schemas.cache.states import array_files, check_array, map_array, write_states
from tests.stored import stored

ENCODINGS = ("fp8", "int8")


def record(encoding: str) -> ArrayRecord:
    return ArrayRecord(kind="hidden", layer=2, width=3, dtype="bfloat16", encoding=encoding)


def rows(codes: list[list[int]], scales: list[float]) -> np.ndarray:
    return np.concatenate([np.array(codes, np.uint8), np.array(scales, "<f4")[:, None].view(np.uint8)], 1)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_codes_lie_beside_their_scale(tmp_path: Path, encoding: str) -> None:
    array, truth = record(encoding), rows([[1, 2, 3], [0, 255, 128]], [0.5, -2.0])
    write_states(tmp_path / "s", {"hidden/2": truth}, [array])
    check_array(tmp_path / "s", array, 2)
    np.testing.assert_array_equal(stored(tmp_path / "s", "hidden/2"), truth)
    np.testing.assert_array_equal(map_array(tmp_path / "s", array, 2), truth)
    assert array_files(array) == ["hidden/2/c/0/0"] and (tmp_path / "s/hidden/2/c/0/0").read_bytes() == truth.tobytes()
    metadata = json.loads((tmp_path / "s/hidden/2/zarr.json").read_text())
    assert (metadata["shape"], metadata["data_type"]) == ([2, 7], "uint8")
    assert metadata["attributes"] == {"dtype": "bfloat16", "encoding": encoding, "kind": "hidden", "layer": 2}
    assert truth[:, 3:].copy().view("<f4")[:, 0].tolist() == [0.5, -2.0]
    assert CODECS[encoding].bytes_per_row(array) == 7


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_states_are_not_codes(tmp_path: Path, encoding: str) -> None:
    with pytest.raises(ValueError) as refused:
        write_states(tmp_path / "s", {"hidden/2": np.zeros((2, 3), "<u2")}, [record(encoding)])
    assert str(refused.value) == "hidden/2: uint16(2, 3) is not uint8[tokens, 7]"
    empty = map_array(tmp_path / "nowhere", record(encoding), 0)
    assert empty.shape == (0, 7) and empty.dtype == np.uint8


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_scales_must_be_finite(encoding: str) -> None:
    found = rows([[0, 0, 0]] * 4, [1.0, np.inf, np.nan, 0.0])
    assert CODECS[encoding].are_finite(record(encoding), found).tolist() == [True, False, False, True]


def test_a_code_of_fp8_may_be_what_is_not_a_number() -> None:
    found = rows([[0x7E, 0xFE, 0], [0x7F, 0, 0], [0, 0, 0xFF]], [1.0, 1.0, 1.0])
    assert CODECS["fp8"].are_finite(record("fp8"), found).tolist() == [True, False, False]
    assert CODECS["int8"].are_finite(record("int8"), found).tolist() == [True] * 3

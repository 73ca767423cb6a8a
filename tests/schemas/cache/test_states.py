"""states.zarr as a group: whose it is, and that only what was announced is written."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from schemas.cache.arrays import ArrayRecord, keeps_tokens
from schemas.cache.states import check_group, map_array, write_states
from schemas.cache.ways_out import redo
from schemas.errors import CacheError
from tests.shards import ARRAYS, states
from tests.stored import opened, stored

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "cache-1"
WANTED = "{'format': 'stillroom-states', 'version': 1} or {'format': 'stillroom-states', 'version': 2}"


def test_the_group_says_what_it_is(tmp_path: Path) -> None:
    write_states(tmp_path / "s", states(5), ARRAYS)
    assert json.loads((tmp_path / "s/zarr.json").read_text()) == {
        "attributes": {"format": "stillroom-states", "version": 2},
        "zarr_format": 3,
        "node_type": "group",
    }
    check_group(tmp_path / "s")
    check_group(GOLDEN / "shards/00000/states.zarr")  # of version 1
    with pytest.raises(FileExistsError):
        write_states(tmp_path / "s", states(5), ARRAYS)


@pytest.mark.parametrize(
    ("group", "said"),
    [
        ({}, " is damaged: KeyError('attributes'); REDO"),
        ({"attributes": {"format": "x"}}, " is damaged: KeyError('version'); REDO"),
        *(
            (
                {"attributes": {"format": "stillroom-states", "version": version}},
                f" says {{'format': 'stillroom-states', 'version': {version}}}; this stillroom reads "
                f"{WANTED}; use the one that wrote it",
            )
            for version in (0, 3, True, 2.0)
        ),
    ],
)
def test_a_group_of_another_kind_is_named(tmp_path: Path, group: dict[str, Any], said: str) -> None:
    (tmp_path / "zarr.json").write_text(json.dumps(group))
    with pytest.raises(CacheError) as refused:
        check_group(tmp_path)
    assert str(refused.value) == f"{tmp_path}/zarr.json{said}".replace("REDO", redo(tmp_path / "zarr.json"))


def test_what_is_no_group_is_named(tmp_path: Path) -> None:
    with pytest.raises(CacheError) as refused:
        check_group(tmp_path)
    assert str(refused.value) == f"{tmp_path} is not a Zarr group: there is no zarr.json"
    (tmp_path / "zarr.json").write_text('{"attributes": []}')
    with pytest.raises(CacheError, match=r"zarr\.json is damaged: TypeError\("):
        check_group(tmp_path)
    (tmp_path / "zarr.json").write_text("[]")
    with pytest.raises(CacheError) as refused:
        check_group(tmp_path)
    assert str(refused.value) == f"{tmp_path}/zarr.json is damaged: not JSON (it is not an object)"


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("hidden/2", np.zeros((5, 15), "<u2"), "hidden/2: uint16(5, 15) is not uint16[tokens, 16]"),
        ("hidden/2", np.zeros((5, 16), "<f4"), "hidden/2: float32(5, 16) is not uint16[tokens, 16]"),
        ("mass/2", np.zeros((5, 1), "<f4"), "mass/2: float32(5, 1) is not float32[tokens, None]"),
    ],
)
def test_numbers_of_another_shape_or_type_are_not_written(
    tmp_path: Path, name: str, values: np.ndarray, said: str
) -> None:
    with pytest.raises(ValueError) as refused:
        write_states(tmp_path / "s", {**states(5), name: values}, ARRAYS)
    assert str(refused.value) == said


def test_states_are_plain_zarr_and_plain_bytes(tmp_path: Path) -> None:
    truth = torch.randn(7, 4)
    records = [
        ArrayRecord(kind="hidden", layer=2, width=4, dtype="bfloat16"),
        ArrayRecord(kind="mass", layer=2, width=None, dtype="float32"),
    ]
    half = truth.bfloat16()
    arrays = {"hidden/2": half.view(torch.uint16).numpy(), "mass/2": np.zeros(7, np.float32)}
    write_states(tmp_path / "s.zarr", arrays, records)

    assert opened(tmp_path / "s.zarr", "hidden/2").attrs["dtype"] == "bfloat16"
    bits = stored(tmp_path / "s.zarr", "hidden/2")
    assert torch.equal(torch.from_numpy(bits).view(torch.bfloat16), half)
    # float32 is bfloat16 with sixteen more bits: what the README tells a NumPy user to do.
    widened = (bits.astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_array_equal(widened, half.float().numpy())

    mapped = map_array(tmp_path / "s.zarr", records[0], 7)
    assert mapped.tobytes() == arrays["hidden/2"].tobytes()
    assert map_array(tmp_path / "s.zarr", records[1], 7).sum() == 0  # a chunk of zeros has its file too
    with pytest.raises(CacheError, match="56 bytes instead of 64"):
        map_array(tmp_path / "s.zarr", records[0], 8)


def test_compressed_rows_of_samples_and_whole_numbers(tmp_path: Path) -> None:
    records = [
        ArrayRecord(kind="pooled", layer=2, width=64, dtype="float16", encoding="zstd"),
        ArrayRecord(kind="top_k/ids", layer=2, width=3, dtype="int32"),
    ]
    assert [record.path for record in records] == ["pooled/2", "top_k/ids"]
    assert [record.rows for record in records] == ["samples", "tokens"]
    assert keeps_tokens(records) and not keeps_tokens(records[:1])
    arrays: dict[str, np.ndarray] = {
        "pooled/2": np.linspace(-1, 1, 320, dtype=np.float16).reshape(5, 64),
        "top_k/ids": np.arange(21, dtype=np.int32).reshape(7, 3),
    }
    write_states(tmp_path / "s.zarr", arrays, records)
    for record, rows in zip(records, (5, 7), strict=True):
        np.testing.assert_array_equal(stored(tmp_path / "s.zarr", record.path), arrays[record.path])
        mapped = map_array(tmp_path / "s.zarr", record, rows)
        np.testing.assert_array_equal(mapped, arrays[record.path])
        mapped[:] = 0  # of the reader's own, as every array is
        np.testing.assert_array_equal(map_array(tmp_path / "s.zarr", record, rows), arrays[record.path])
    for rows in (4, 6):
        with pytest.raises(CacheError, match=r"cannot read .*pooled/2/c/0/0"):
            map_array(tmp_path / "s.zarr", records[0], rows)


def test_a_unit_without_tokens_is_a_valid_group(tmp_path: Path) -> None:
    record = ArrayRecord(kind="hidden", layer=0, width=4, dtype="float32")
    write_states(tmp_path / "s.zarr", {"hidden/0": np.empty((0, 4), np.float32)}, [record])
    assert stored(tmp_path / "s.zarr", "hidden/0").shape == (0, 4)


def test_wrong_numbers_are_never_written(tmp_path: Path) -> None:
    record = ArrayRecord(kind="hidden", layer=0, width=4, dtype="float32")
    with pytest.raises(ValueError, match="hidden/0"):
        write_states(tmp_path / "s.zarr", {"hidden/0": np.zeros((2, 3), np.float32)}, [record])

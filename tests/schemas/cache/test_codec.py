"""What a codec writes is plain Zarr with nothing left to defaults, and what it cannot read is named in one message."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schemas.cache.arrays import ArrayRecord
from schemas.cache.codec import CODECS
from schemas.cache.states import array_files, check_array, map_array, write_states
from schemas.cache.ways_out import redo
from schemas.errors import CacheError

HIDDEN = ArrayRecord(kind="hidden", layer=2, width=4, dtype="bfloat16")
MASS = ArrayRecord(kind="mass", layer=2, width=None, dtype="float32")
POOLED = ArrayRecord(kind="pooled", layer=1, width=64, dtype="float16", encoding="zstd")


@pytest.fixture
def states(tmp_path: Path) -> Path:
    """Seven tokens of two arrays, the second of them zeros, and three samples of a compressed one."""
    folder = tmp_path / "states.zarr"
    arrays = {
        "hidden/2": np.arange(28, dtype="<u2").reshape(7, 4),
        "mass/2": np.zeros(7, "<f4"),
        "pooled/1": np.linspace(-1, 1, 192).astype("<f2").reshape(3, 64),
    }
    write_states(folder, arrays, [HIDDEN, MASS, POOLED])
    return folder


def metadata(states: Path, path: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((states / path / "zarr.json").read_text())
    return found


def test_metadata_is_what_format_1_says(states: Path) -> None:
    assert metadata(states, "hidden/2") == {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [7, 4],
        "data_type": "uint16",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [7, 4]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0,
        "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
        "attributes": {"dtype": "bfloat16", "encoding": "raw", "kind": "hidden", "layer": 2},
        "storage_transformers": [],
    }
    pooled = metadata(states, "pooled/1")
    assert pooled["codecs"][1] == {"name": "zstd", "configuration": {"level": 3, "checksum": False}}
    assert pooled["attributes"] == {"dtype": "float16", "encoding": "zstd", "kind": "pooled", "layer": 1}


def test_files_are_where_the_codec_says(states: Path) -> None:
    files = [file for array in (HIDDEN, MASS, POOLED) for file in array_files(array)]
    assert files == ["hidden/2/c/0/0", "mass/2/c/0", "pooled/1/c/0/0"]
    assert sorted(path.relative_to(states).as_posix() for path in states.rglob("c/**/*") if path.is_file()) == files
    assert (states / "mass/2/c/0").read_bytes() == bytes(28)


def test_bytes_per_row() -> None:
    wide = ArrayRecord(kind="hidden", layer=2, width=1, dtype="float32")
    rows = [CODECS[array.encoding].bytes_per_row(array) for array in (HIDDEN, MASS, POOLED, wide)]
    assert rows == [8, 4, pytest.approx(117.76), 4]


def test_bytes_of_draws_are_those_that_were_measured() -> None:
    """35.9 and 40.5 bytes for 50 draws that weigh alike, 103 and 107 with weights: SmolLM2 and Gemma 3."""
    alike = ArrayRecord(kind="sampled/draws", layer=2, width=50, dtype="uint8", encoding="draws")
    weighted = alike.model_copy(update={"dtype": "float16"})
    assert [CODECS["draws"].bytes_per_row(array) for array in (alike, weighted)] == [38.5, 102]


def test_sound_metadata_is_accepted(states: Path) -> None:
    for array, rows in ((HIDDEN, 7), (MASS, 7), (POOLED, 3)):
        check_array(states, array, rows)
    path = states / "hidden/2/zarr.json"
    path.write_text(json.dumps(metadata(states, "hidden/2") | {"codecs": ["bytes"], "more": 1}))
    check_array(states, HIDDEN, 7)  # Zarr lets a codec without configuration be its name


@pytest.mark.parametrize(
    ("name", "value", "said", "wanted"),
    [
        ("zarr_format", 2, "2", "3"),
        ("node_type", "group", "'group'", "array"),
        ("shape", [7, 5], "[7, 5]", "[7, 4]"),
        ("data_type", "float16", "'float16'", "uint16"),
        ("chunk_grid", None, "None", "{'name': 'regular', 'configuration': {'chunk_shape': [7, 4]}}"),
        ("codecs", [{"name": "gzip"}], "['gzip']", "['bytes']"),
        ("codecs", {"name": "bytes"}, "{'name': 'bytes'}", "['bytes']"),
        ("codecs", [{"of": "bytes"}], "[None]", "['bytes']"),
        (
            "attributes",
            {"kind": "mass"},
            "{'kind': 'mass'}",
            "{'dtype': 'bfloat16', 'encoding': 'raw', 'kind': 'hidden', 'layer': 2}",
        ),
        (
            "attributes",
            "x" * 300,
            f"'{'x' * 199}",
            "{'dtype': 'bfloat16', 'encoding': 'raw', 'kind': 'hidden', 'layer': 2}",
        ),
    ],
)
def test_metadata_of_another_array_is_named(states: Path, name: str, value: Any, said: str, wanted: str) -> None:
    path = states / "hidden/2/zarr.json"
    path.write_text(json.dumps(metadata(states, "hidden/2") | {name: value}))
    with pytest.raises(CacheError) as refused:
        check_array(states, HIDDEN, 7)
    assert str(refused.value) == f"{path} says {name} {said}, and it is {wanted}; {redo(path)}"


def test_metadata_that_is_no_json_is_named(states: Path) -> None:
    path = states / "mass/2/zarr.json"
    path.write_text("[]")
    with pytest.raises(CacheError) as refused:
        check_array(states, MASS, 7)
    assert str(refused.value) == f"{path} is damaged: not JSON (it is not an object)"
    path.unlink()
    with pytest.raises(CacheError) as refused:
        check_array(states, MASS, 7)
    assert str(refused.value) == f"{states}/mass/2 is not a Zarr array: there is no zarr.json"


def test_numbers_that_cannot_be_read_are_named(states: Path) -> None:
    with pytest.raises(CacheError) as refused:
        map_array(states, HIDDEN, 8)
    file = states / "hidden/2/c/0/0"
    assert str(refused.value) == f"{file} has 56 bytes instead of 64; {redo(file)}"
    file.unlink()
    (states / "pooled/1/c/0/0").write_bytes(b"not a frame of zstd")
    for array, rows, reason in ((HIDDEN, 7, "No such file or directory; "), (POOLED, 3, "")):
        with pytest.raises(CacheError) as refused:
            map_array(states, array, rows)
        file = states / array.path / "c/0/0"
        assert str(refused.value).startswith(f"cannot read {file}: {reason}")
        assert str(refused.value).endswith(f"; {redo(file)}") and "None" not in str(refused.value)


def test_a_shard_without_rows_has_no_numbers_to_read(tmp_path: Path) -> None:
    write_states(tmp_path / "s", {"hidden/2": np.empty((0, 4), "<u2"), "mass/2": np.empty(0, "<f4")}, [HIDDEN, MASS])
    assert metadata(tmp_path / "s", "hidden/2")["chunk_grid"]["configuration"] == {"chunk_shape": [1, 4]}
    for array in (HIDDEN, MASS):
        check_array(tmp_path / "s", array, 0)
    empty = map_array(tmp_path / "nowhere", HIDDEN, 0)
    assert empty.shape == (0, 4) and empty.dtype == np.dtype("<u2")
    assert map_array(tmp_path / "nowhere", MASS, 0).shape == (0,)

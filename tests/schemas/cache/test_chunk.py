"""One array in one file: what is written is what Zarr finds, and what is mapped."""

from pathlib import Path

import numpy as np
import pytest
import zarr

from schemas.cache.chunk import check_chunk, check_node, chunk_file, map_chunk, write_chunk
from schemas.cache.ways_out import redo
from schemas.errors import CacheError
from tests.stored import stored

INT16 = np.dtype("<i2")


@pytest.mark.parametrize("shape", [(7,), (3, 4)])
def test_all_numbers_lie_in_one_file(tmp_path: Path, shape: tuple[int, ...]) -> None:
    truth = np.arange(int(np.prod(shape)), dtype="<i2").reshape(shape)
    write_chunk(zarr.open_group(tmp_path / "s", mode="w-", zarr_format=3), "a/b", truth, {"c": 1})
    file = tmp_path / "s" / chunk_file("a/b", len(shape))
    assert file.read_bytes() == truth.tobytes()
    np.testing.assert_array_equal(stored(tmp_path / "s", "a/b"), truth)
    np.testing.assert_array_equal(map_chunk(file, INT16, shape), truth)
    check_chunk(tmp_path / "s/a/b", INT16, shape, {"c": 1})
    with pytest.raises(CacheError, match=r"zarr\.json says attributes \{'c': 1\}, and it is \{\}; run `stillroom"):
        check_chunk(tmp_path / "s/a/b", INT16, shape, {})


def test_a_file_of_another_size_is_named(tmp_path: Path) -> None:
    (tmp_path / "0").write_bytes(bytes(9))
    with pytest.raises(CacheError) as refused:
        map_chunk(tmp_path / "0", INT16, (4,))
    assert str(refused.value) == f"{tmp_path}/0 has 9 bytes instead of 8; {redo(tmp_path / '0')}"


def test_what_is_not_there_is_called_what_it_should_be(tmp_path: Path) -> None:
    with pytest.raises(CacheError) as refused:
        check_node(tmp_path, {}, "this is not a group")
    assert str(refused.value) == "this is not a group: there is no zarr.json"
    (tmp_path / "zarr.json").write_text("{}")
    check_node(tmp_path, {"attributes": {}}, "")

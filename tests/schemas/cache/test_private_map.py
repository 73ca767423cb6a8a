"""A file in memory: no descriptor stays open, what is changed stays in memory, and a failure names the file."""

import errno
import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schemas.cache.private_map import PrivateMap


def write(path: Path) -> np.ndarray:
    numbers = np.arange(12, dtype="<u2").reshape(4, 3)
    path.write_bytes(numbers.tobytes())
    return numbers


def test_numbers_are_those_of_the_file_and_changes_stay_in_memory(tmp_path: Path) -> None:
    truth = write(tmp_path / "numbers")
    before = len(os.listdir("/proc/self/fd"))
    mapped = np.asarray(PrivateMap(tmp_path / "numbers", np.dtype("<u2"), (4, 3)))
    assert len(os.listdir("/proc/self/fd")) == before
    np.testing.assert_array_equal(mapped, truth)
    mapped[1] = 99
    assert mapped[1].tolist() == [99] * 3 and (tmp_path / "numbers").read_bytes() == truth.tobytes()


def test_it_is_an_array_by_numpys_protocol(tmp_path: Path) -> None:
    """Version 3 of it, with memory that may be written to."""
    write(tmp_path / "numbers")
    found: dict[str, Any] = dict(PrivateMap(tmp_path / "numbers", np.dtype("<u2"), (4, 3)).__array_interface__)
    address, read_only = found.pop("data")
    assert found == {"version": 3, "typestr": "<u2", "shape": (4, 3)}
    assert address % mmap.PAGESIZE == 0 and read_only is False


def test_arrays_outlive_the_object_that_mapped_them(tmp_path: Path) -> None:
    truth = write(tmp_path / "numbers")
    rows = [np.asarray(PrivateMap(tmp_path / "numbers", np.dtype("<u2"), (4, 3)))[row] for row in range(4)]
    assert [row.tolist() for row in rows] == truth.tolist()


def test_a_map_that_the_system_refuses_names_the_file(tmp_path: Path) -> None:
    """Of no bytes, there is none."""
    path = tmp_path / "numbers"
    write(path)
    with pytest.raises(OSError, match=str(path)) as refused:
        PrivateMap(path, np.dtype("<u2"), (0, 3))
    assert (refused.value.errno, refused.value.filename) == (errno.EINVAL, str(path))
    assert refused.value.strerror == os.strerror(errno.EINVAL)

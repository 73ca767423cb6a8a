"""Size and checksum of files, recorded and compared."""

import errno
import os
from pathlib import Path

import pytest

from schemas.errors import CacheError, RunError
from schemas.storage.file_record import check_file, check_size, describe_file


def test_a_file_is_compared_with_what_is_recorded_of_it(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    file = describe_file(path)
    check_file(path, file, "way out")
    path.write_bytes(b"abd")
    check_size(path, file, "way out")
    with pytest.raises(RunError, match=r"a does not have its checksum; way out$"):
        check_file(path, file, "way out", RunError)
    path.write_bytes(b"ab")
    for check in (check_size, check_file):
        with pytest.raises(CacheError, match=r"a has 2 bytes instead of 3; way out$"):
            check(path, file, "way out")
    path.unlink()
    with pytest.raises(CacheError, match=r"a is missing; way out$"):
        check_file(path, file, "way out")


@pytest.mark.parametrize(
    "name", ["none", "file/below", "loop", "folder", "pipe", "zero\0byte", "half\ud800", "n" * 300]
)
def test_what_is_no_file_is_missing(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CacheError, match=r" is missing; way out$"):
        check_size(f"{tmp_path}/{name}", describe_file(tmp_path / "file"), "way out")


def test_a_disk_that_fails_is_not_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    file = describe_file(tmp_path / "file")

    def fail(path: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("os.stat", fail)
    with pytest.raises(OSError, match="Input/output error"):
        check_size(f"{tmp_path}/file", file, "way out")

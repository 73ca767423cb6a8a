"""Only regular files of bounded size are read, and the reason names what else is there."""

import os
import socket
from pathlib import Path

import pytest

from schemas.storage.regular import open_regular, open_to_append, read_bytes, read_text, require_regular


def test_a_regular_file_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes("é\n".encode())
    require_regular(path)
    with open_regular(path) as file:
        assert file.read() == b"\xc3\xa9\n"
    assert read_bytes(path) == b"\xc3\xa9\n" and read_text(path) == "é\n"
    (tmp_path / "link").symlink_to(path)
    assert read_text(tmp_path / "link") == "é\n"


def test_the_bound_is_the_last_size_that_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x" * 1234)
    assert len(read_bytes(path, 1234)) == 1234
    with pytest.raises(OSError) as refused:
        read_bytes(path, 1233)
    assert refused.value.strerror == "it is larger than the 1,233 bytes that such a file may have"
    assert refused.value.filename == str(path)


@pytest.mark.skipif(not Path("/proc/version").exists(), reason="needs a system with /proc")
def test_a_file_without_a_size_is_read_whole() -> None:
    path = Path("/proc/version")
    assert path.stat().st_size == 0 and read_bytes(path) == path.read_bytes() != b""
    with pytest.raises(OSError, match="larger than the 9 bytes"):
        read_bytes(path, 9)


def test_what_is_no_regular_file_is_named_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "socket"))
        places = {tmp_path: "a folder", tmp_path / "pipe": "a pipe", tmp_path / "socket": "a socket"}
        for path, kind in (places | {Path("/dev/zero"): "a device"}).items():
            for read in (require_regular, open_regular, read_bytes, read_text):
                with pytest.raises(OSError) as refused:
                    read(path)
                assert refused.value.strerror == f"it is {kind}, and a regular file is wanted"


def test_names_that_no_file_can_have(tmp_path: Path) -> None:
    for name in ("a\0b", "a\ud800"):
        with pytest.raises(OSError, match="no file can have this name"):
            require_regular(Path(str(tmp_path), name))
    with pytest.raises(FileNotFoundError):
        require_regular(tmp_path / "nothing")


def test_text_is_utf8(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\xff")
    with pytest.raises(UnicodeDecodeError):
        read_text(tmp_path / "a")


def test_lines_are_added_to_a_file_of_ours_and_to_nothing_else(tmp_path: Path) -> None:
    path, other = tmp_path / "log", tmp_path / "other"
    for line in ("one\n", "two \ud800\n"):
        with open_to_append(path) as file:
            file.write(line)
    assert path.read_bytes() == b"one\ntwo \\ud800\n"
    other.write_text("mine")
    (tmp_path / "link").symlink_to(other)
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path / "link", tmp_path / "pipe", Path("/dev/null")):
        with pytest.raises(OSError, match="a regular file is wanted there") as refused:
            open_to_append(place)
        assert refused.value.filename == str(place)
    assert other.read_text() == "mine"
    with pytest.raises(FileNotFoundError):
        open_to_append(tmp_path / "nowhere" / "log")

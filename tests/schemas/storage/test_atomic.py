"""Whole files and folders: what is left when writing fails, who may read them, and what counts as a full disk."""

import errno
import os
import posix
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors import SafetensorError
from safetensors.numpy import save_file

from schemas.errors import ResourceError
from schemas.storage.atomic import (
    commit_folder,
    disk_full,
    file_beside,
    folder_beside,
    remove_temporaries,
    write_new,
    write_text,
)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "first é")
    with pytest.raises(KeyboardInterrupt), file_beside(tmp_path / "a.txt") as path:
        path.write_text("half of the sec")
        raise KeyboardInterrupt
    assert (tmp_path / "a.txt").read_bytes() == "first é".encode() and os.listdir(tmp_path) == ["a.txt"]
    write_text(tmp_path / "a.txt", "second")
    assert (tmp_path / "a.txt").read_text() == "second" and os.listdir(tmp_path) == ["a.txt"]


def test_all_is_on_the_disk_before_it_has_its_name_and_then_the_name_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = list[int | str]()  # the inode of what is flushed, the name of what gives names

    def sync(descriptor: int) -> None:
        posix.fsync(descriptor)
        done.append(os.fstat(descriptor).st_ino)

    def heard(name: str) -> Callable[[Path, Path], None]:
        def give_name(source: Path, target: Path) -> None:
            getattr(posix, name)(source, target)
            done.append(name)

        return give_name

    monkeypatch.setattr(os, "fsync", sync)
    for name in ("rename", "replace", "link"):
        monkeypatch.setattr(os, name, heard(name))
    with folder_beside(tmp_path / "cache") as folder:
        (folder / "in").mkdir()
        for path in ("in/a", "in/b"):
            (folder / path).write_text("content")
        assert commit_folder(folder, tmp_path / "cache")
    a, b, inner, cache, outer = (
        (tmp_path / x).stat().st_ino for x in ("cache/in/a", "cache/in/b", "cache/in", "cache", "")
    )
    assert set(done[:2]) == {a, b} and done[2:] == [inner, cache, "rename", outer]
    for write, way in ((write_text, "replace"), (write_new, "link")):
        done.clear()
        write(tmp_path / f"{way}.txt", "content")
        assert done == [(tmp_path / f"{way}.txt").stat().st_ino, way, outer]


@pytest.mark.parametrize("error", [None, errno.EPERM, errno.EOPNOTSUPP])
def test_a_new_file_replaces_nothing_with_hard_links_or_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int | None
) -> None:
    """The folder's file system has hard links; one that has none says so by these errors."""
    if error is not None:

        def link(path: Path, target: Path) -> None:
            raise OSError(error, "no links here")

        monkeypatch.setattr(os, "link", link)
    write_new(tmp_path / "a.txt", "first é")
    (tmp_path / "gone.txt").symlink_to(tmp_path / "nowhere")
    for name in ("a.txt", "gone.txt"):
        with pytest.raises(FileExistsError):
            write_new(tmp_path / name, "second")
    assert (tmp_path / "a.txt").read_bytes() == "first é".encode() and (tmp_path / "a.txt").stat().st_nlink == 1
    assert sorted(os.listdir(tmp_path)) == ["a.txt", "gone.txt"] and not (tmp_path / "nowhere").exists()


def test_the_first_folder_wins_and_a_failed_one_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder"
    for content, won in (("first", True), ("second", False)):
        with folder_beside(target) as folder:
            (folder / "deep").mkdir()
            (folder / "deep" / "file").write_text(content)
            assert commit_folder(folder, target) is won
    with pytest.raises(KeyError), folder_beside(target) as folder:
        raise KeyError
    assert (target / "deep" / "file").read_text() == "first" and os.listdir(target.parent) == ["folder"]


@pytest.mark.parametrize(("umask", "wanted"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_files_are_readable_to_whom_the_umask_allows(tmp_path: Path, umask: int, wanted: int) -> None:
    before = os.umask(umask)
    try:
        with folder_beside(tmp_path / "folder") as folder:
            save_file({"a": np.zeros(3)}, folder / "a.safetensors")
            commit_folder(folder, tmp_path / "folder")
        with file_beside(tmp_path / "b.safetensors") as path:
            save_file({"a": np.zeros(3)}, path)
    finally:
        os.umask(before)
    assert mode(tmp_path / "folder" / "a.safetensors") == mode(tmp_path / "b.safetensors") == wanted
    assert mode(tmp_path / "folder") == 0o777 & ~umask


def test_what_cannot_be_flushed_is_named_and_nothing_of_it_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fails: the system's own error tells no file, and a thread flushes each."""

    def fail(descriptor: int) -> None:
        if os.readlink(f"/proc/self/fd/{descriptor}").endswith("/7"):
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match=r"Input/output error: '.*\.tmp/7'$"), folder_beside(tmp_path / "a") as folder:
        for number in range(9):
            (folder / str(number)).write_text("x")
        commit_folder(folder, tmp_path / "a")
    assert os.listdir(tmp_path) == []


def test_leftovers_of_killed_writers_go(tmp_path: Path) -> None:
    (tmp_path / ".step-1-0123abcd.tmp").mkdir()
    (tmp_path / ".a.tmp").write_text("x")
    (tmp_path / ".lock").write_text("")
    for owner in ("aaaaaaaa", "bbbbbbbb", "cccccccc"):
        (tmp_path / f".00001-0123abcd@{owner}.tmp").mkdir()
    remove_temporaries(tmp_path, {"aaaaaaaa", "bbbbbbbb"})
    assert sorted(os.listdir(tmp_path)) == [".00001-0123abcd@cccccccc.tmp", ".lock"]
    with folder_beside(tmp_path / "00002", "cccccccc"):
        assert len(os.listdir(tmp_path)) == 3
        remove_temporaries(tmp_path, {"dddddddd"})
        assert len(os.listdir(tmp_path)) == 3
        remove_temporaries(tmp_path, {"cccccccc"})
        assert os.listdir(tmp_path) == [".lock"]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
        SafetensorError("Error while serializing: I/O error: File too large (os error 27)"),
        Exception("File too large (os error 27)"),  # as tokenizers has it
    ],
)
def test_a_full_disk_is_named(tmp_path: Path, error: Exception) -> None:
    said = f"no space left to write the thing of {tmp_path} .*; make room"
    with pytest.raises(ResourceError, match=said), disk_full("the thing", tmp_path):
        raise error


@pytest.mark.parametrize("error", [PermissionError(errno.EACCES, "no"), SafetensorError("(os error 13)"), ValueError()])
def test_other_errors_pass(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(type(error)) as found, disk_full("the thing", tmp_path):
        raise error
    assert found.value is error

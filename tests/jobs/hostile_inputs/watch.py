"""What a command does besides answering: files that it writes, programs and code that it runs, calls to the network.

Python tells (PEP 578) whatever it opens, starts or unpickles. Libraries in C++ and Rust do not, so what lies around the
working directory is compared, too.
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_NAMES = {"os.mkdir": 1, "os.rename": 2, "os.link": 2, "os.symlink": 2, "os.remove": 1, "os.rmdir": 1, "os.truncate": 1}
_STARTS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "pickle.find_class")
_CALLS = ("socket.connect", "socket.getaddrinfo")

_here: Path | None = None  # while a command is watched
_seen: list[str] = []
_heeds: list[bool] = []  # whether Python has been told to report; it never forgets


@contextmanager
def watched(here: Path) -> Iterator[list[str]]:
    """What is done inside that no command may do whose working directory is `here`."""
    global _here
    if not _heeds:
        sys.addaudithook(_hear)
        _heeds.append(True)
    _seen.clear()
    _here, writes_bytecode = here, sys.dont_write_bytecode
    sys.dont_write_bytecode = True  # what is imported on the way would be written beside its source
    try:
        yield _seen
    finally:
        _here, sys.dont_write_bytecode = None, writes_bytecode


def _hear(event: str, said: tuple[Any, ...]) -> None:
    if _here is None:
        return
    if event == "open" and isinstance(said[0], (str, bytes)) and (said[2] or 0) & _WRITES:
        if not said[2] & os.O_EXCL:  # which follows no link, and opens nothing that is there
            _require_inside(event, said[0])
    elif event in _NAMES:
        for name in said[: _NAMES[event]] if event != "os.symlink" else said[1:2]:
            _require_inside(event, name)
    elif event in _STARTS or event in _CALLS:
        _seen.append(f"{event} {said[:2]}")
    elif event == "exec" and str(getattr(said[0], "co_filename", "")).startswith(str(_here)):
        _seen.append(f"{event} {said[0]}")


def _require_inside(event: str, name: Any) -> None:
    if isinstance(name, int):
        return
    assert _here is not None
    place = _here / os.fsdecode(name)
    # What names a place, and does not open it, changes a link and not what the link stands for.
    follows = event in ("open", "os.truncate")
    path = Path(os.path.realpath(place)) if follows else Path(os.path.realpath(place.parent), place.name)
    if not any(path.is_relative_to(place) for place in (_here, Path("/dev"), Path(tempfile.gettempdir()))):
        _seen.append(f"{event} {path}")


def look(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Kind, size and last change of everything in a folder, without opening anything."""
    found = {}
    for place, folders, files in os.walk(folder):
        for path in (os.path.join(place, name) for name in (*folders, *files)):
            status, folder_or_link_to_one = os.lstat(path), os.path.isdir(path)
            found[os.path.relpath(path, folder)] = (
                status.st_mode,
                0 if folder_or_link_to_one else status.st_size,
                0 if folder_or_link_to_one else status.st_mtime_ns,
            )
    return found


def peak_bytes() -> int:
    """The most memory that this process has had since `forget_peak`."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmHWM")


def forget_peak() -> int:
    """Begin anew; returns the memory that this process has now."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak_bytes()

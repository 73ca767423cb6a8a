"""A user's files, to read and to add lines to: regular ones alone, and small ones whole up to a bound.

A pipe would wait for a writer that may never come, and a device such as /dev/zero never ends. Both are refused before
they are opened.
"""

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path
from typing import TextIO, cast

from schemas.errors import StillroomError

RECORD_BYTES = 64 << 20  # of one small file: a config of a model, a record of a cache or of a run
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def require_regular(path: Path) -> None:
    """Raises OSError: nothing is there, or it is not a regular file. Its `strerror` says what it is."""
    try:
        mode = os.stat(path).st_mode
    except ValueError as error:  # a zero byte, or half a character
        raise OSError(errno.EINVAL, f"no file can have this name ({error})", str(path)) from None
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "not a file")
        raise OSError(errno.EINVAL, f"it is {kind}, and a regular file is wanted", str(path))


def require_utf8(path: Path, raises: type[StillroomError]) -> None:
    """Raises `raises` if a name in `path` is not UTF-8: the libraries that read weights and tokenizers open no such."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise raises(
            f"{path}: weights and tokenizers can be read only under names in UTF-8, and this is not one: rename it"
        ) from None


def open_regular(path: Path) -> BufferedReader:
    """The file opened for reading bytes. Raises OSError as `require_regular` does, or as opening does."""
    require_regular(path)
    return cast(BufferedReader, path.open("rb", buffering=1 << 20))


def open_to_append(path: Path) -> TextIO:
    """A text file of ours opened to add lines to it, made where there is none.

    Raises OSError; also for what else may stand in its place, such as a link to another file, or a pipe that nobody
    reads: the system refuses it as it is opened.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags, 0o666)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise _no_file_of_ours(path) from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _no_file_of_ours(path)
    return os.fdopen(descriptor, "a", encoding="utf-8", errors="backslashreplace")


def _no_file_of_ours(path: Path) -> OSError:
    return OSError(errno.EINVAL, "a regular file is wanted there, and this is a link or a device; remove it", str(path))


def read_bytes(path: Path, limit: int = RECORD_BYTES) -> bytes:
    """All bytes of a small file. Raises OSError as `open_regular` does, and for more than `limit` bytes."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size  # Python makes room for as much as is asked for
        content = file.read(min(size, limit) + 1)
        if len(content) > size:  # it has grown, or has no size, as in /proc
            content += file.read(limit + 1 - len(content))
    if len(content) > limit:
        raise OSError(errno.EINVAL, f"it is larger than the {limit:,} bytes that such a file may have", str(path))
    return content


def read_text(path: Path, limit: int = RECORD_BYTES) -> str:
    """The UTF-8 text of a small file. Raises OSError as `read_bytes` does, UnicodeDecodeError."""
    return read_bytes(path, limit).decode("utf-8")

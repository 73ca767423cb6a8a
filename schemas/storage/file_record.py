"""Size and checksum of a file, as records keep them of others: made when it is written, compared when it is read."""

import errno
import os
import stat
from collections.abc import Collection
from pathlib import Path
from typing import Annotated

from pydantic import Field

from schemas.errors import CacheError, StillroomError
from schemas.storage.fingerprint import hash_file
from schemas.strict import Strict

ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG}


class FileRecord(Strict):
    """Size and checksum of one file."""

    bytes: Annotated[int, Field(ge=0)]
    sha256: str
    """Hex, as `sha256sum` prints it."""


def describe_file(path: Path) -> FileRecord:
    """Size and checksum of a file as it is now. Reads every byte of it."""
    return FileRecord(bytes=path.stat().st_size, sha256=hash_file(path))


def list_files(folder: Path, leave_out: Collection[str] = ()) -> dict[str, FileRecord]:
    """Size and checksum of every file below `folder`, by relative path, except those named in `leave_out`."""
    return {name: describe_file(path) for name, path in files_below(folder, leave_out).items()}


def files_below(folder: Path, leave_out: Collection[str] = ()) -> dict[str, Path]:
    """Every file below `folder`, by relative path and in order of it, except those named in `leave_out`."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    names = {path.relative_to(folder).as_posix(): path for path in paths}
    return {name: path for name, path in names.items() if name not in leave_out}


def check_size(path: Path | str, file: FileRecord, way_out: str, raises: type[StillroomError] = CacheError) -> None:
    """Raises `raises`, whose message ends with `way_out`, if the file is missing or of another size."""
    size = _find_size(path)
    if size != file.bytes:
        state = "is missing" if size is None else f"has {size} bytes instead of {file.bytes}"
        raise raises(f"{path} {state}; {way_out}")


def _find_size(path: Path | str) -> int | None:
    """Of a regular file, or None: there is none. Asks once, because a large cache has a hundred thousand files."""
    try:
        found = os.stat(path)
    except ValueError:  # a zero byte, or half a character
        return None
    except OSError as error:
        if error.errno not in ABSENT:  # a disk that fails says nothing of the file
            raise
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def check_file(path: Path, file: FileRecord, way_out: str, raises: type[StillroomError] = CacheError) -> None:
    """Raises `raises`, whose message ends with `way_out`, if the file is not the recorded one. Reads every byte."""
    check_size(path, file, way_out, raises)
    try:
        found = hash_file(path)
    except OSError as error:
        raise raises(f"cannot read {path}: {error.strerror}; {way_out}") from error
    if found != file.sha256:
        raise raises(f"{path} does not have its checksum; {way_out}")

"""Writing whole files and folders: beside their place, to the platter, then there by one rename.

No reader ever sees half of one, and a writer that fails leaves nothing. Costs one flush of what was written.
"""

import errno
import os
import re
import shutil
import uuid
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from schemas.errors import ResourceError

# The disk, a quota, or a limit on file size: the user's to mend, and nothing else of ours is broken.
_OWNED = re.compile(r"@([0-9a-f]+)\.tmp$")
NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)  # of a file system without hard links
FILES_AT_ONCE = 4  # that are written, hashed or flushed: the layers of a shard, each in a thread
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def disk_full(what: str, where: Path) -> Iterator[None]:
    """Turns a full disk into a ResourceError; any other error passes."""
    try:
        yield
    except Exception as error:
        number = system_error(error)
        if number not in DISK_FULL:
            raise
        raise ResourceError(
            f"no space left to write {what} of {where} ({os.strerror(number)}); make room and run the same command "
            "again: what is complete stays, only the rest is done"
        ) from error


@contextmanager
def folder_beside(target: Path, owner: str = "") -> Iterator[Path]:
    """A temporary folder on the same file system as `target`, gone at the end unless it was renamed.

    `owner` is the token of the lock that it is made under, if it is not that process alone that writes there.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    # Not tempfile's, whose 0700 would keep other users out: this one has the mode that the umask gives.
    folder = target.with_name(f".{target.name}-{uuid.uuid4().hex[:8]}{owner and f'@{owner}'}.tmp")
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def file_beside(target: Path) -> Iterator[Path]:
    """A temporary file that takes the place of `target` at the end, whole or not at all."""
    with folder_beside(target) as folder:
        path = folder / target.name
        yield path
        _settle(path, folder.stat().st_mode)
        os.replace(path, target)
        _sync(target.parent)


def write_text(target: Path, text: str) -> None:
    """Replace a small text file in one step."""
    with file_beside(target) as path:
        path.write_text(text, encoding="utf-8")


def write_new(target: Path, text: str) -> None:
    """Write a text file where there is none, whole or not at all. Raises FileExistsError if something is there by then:
    nothing is replaced."""
    with folder_beside(target) as folder:
        path = folder / target.name
        path.write_text(text, encoding="utf-8")
        _settle(path, folder.stat().st_mode)
        try:
            os.link(path, target)
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))  # the name is taken before it is replaced
            os.replace(path, target)
        _sync(target.parent)


def commit_folder(folder: Path, target: Path) -> bool:
    """Flush everything below `folder` and rename it to `target`; False if `target` was there first."""
    flush_folder(folder)
    try:
        os.rename(folder, target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    _sync(target.parent)
    return True


def flush_folder(folder: Path) -> None:
    """Flush everything below `folder`, a few files at a time, and let those read it who may read the folder itself."""
    mode, walked = folder.stat().st_mode, list(os.walk(folder, topdown=False))
    paths = [Path(directory, name) for directory, _, names in walked for name in names]
    with ThreadPoolExecutor(FILES_AT_ONCE) as threads:
        # What a link stands for is not ours.
        list(threads.map(lambda path: _settle(path, mode), [path for path in paths if not path.is_symlink()]))
    for directory, _, _ in walked:
        _sync(Path(directory))


def remove_temporaries(folder: Path, owners: Collection[str] = ()) -> None:
    """Remove what killed writers left in `folder`: what bears the token of one of `owners`, or none.

    Nobody else may be at work there without a token of their own.
    """
    for path in folder.glob(".*.tmp"):
        owned = _OWNED.search(path.name)
        if owned and owned[1] not in owners:
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _settle(path: Path, folder_mode: int) -> None:
    """Flush a file and let those read it who may read its folder: safetensors gives its files mode 0600."""
    os.chmod(path, folder_mode & 0o666)
    _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:  # which knows no name
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        os.close(descriptor)


def system_error(error: Exception) -> int:
    """The number of a system's error, 0 if it is not one. Safetensors and tokenizers put it only into the text."""
    if isinstance(error, OSError):
        return error.errno or 0
    rust = re.search(r"\(os error (\d+)\)", str(error))
    return int(rust[1]) if rust else 0

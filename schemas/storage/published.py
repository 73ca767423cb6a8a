"""Folders of this machine that are worked in, and whose files are published under a URL as each is finished.

What is written by these functions below such a folder appears at the URL as well, before it takes its place here; what
is removed goes there, too. Everywhere else they do what their namesakes in `schemas.storage.atomic` do. Hidden files
and folders are this machine's alone.
"""

import os
import shutil
import time
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from schemas.errors import StorageError
from schemas.storage import atomic
from schemas.storage.file_record import files_below
from schemas.storage.lock import STALE_SECONDS, acquire
from schemas.storage.objects import list_objects, look_at
from schemas.storage.remote import work_path
from schemas.storage.written_objects import create_object, put_file, put_files, remove_objects

LOCK = ".writer"

_published: dict[Path, str] = {}


def publish_below(url: str) -> Path:
    """The folder whose files this process from now on publishes below `url`. Nothing is made or written yet."""
    folder = work_path(url)
    _published[folder] = url.rstrip("/")
    return folder


@contextmanager
def seen_apart(url: str) -> Iterator[Path]:
    """A new folder in which what lies at `url` can be looked at, whoever writes it, and nothing may be written; it is
    gone at the end. Makes its parents alone, and removes what killed processes left beside them."""
    name = f".{uuid.uuid4().hex[:8]}"
    folder = work_path(url, name)
    apart = next(path for path in folder.parents if path.name == name)
    folder.parent.mkdir(parents=True)
    lock = acquire(apart / LOCK, StorageError)  # by it others see that somebody is at work
    _published[folder] = url.rstrip("/")
    try:
        _remove_left_behind(apart.parent)
        yield folder
    finally:
        del _published[folder]
        lock.release()
        shutil.rmtree(apart)


def _remove_left_behind(folder: Path) -> None:
    for path in folder.glob(".*"):
        with suppress(OSError, StorageError):  # it is in use, or gone by now
            if time.time() - path.stat().st_mtime > STALE_SECONDS:
                acquire(path / LOCK, StorageError).release()
                shutil.rmtree(path)


def published_at(path: Path) -> str | None:
    """The URL at which what is written to `path` is published; None for a path that is published nowhere."""
    for folder in (path, *path.parents) if _published else ():
        if folder in _published:
            names = path.relative_to(folder).parts
            return None if any(name.startswith(".") for name in names) else "/".join((_published[folder], *names))
    return None


@contextmanager
def file_beside(target: Path) -> Iterator[Path]:
    """A temporary file that takes the place of `target` at the end, whole or not at all."""
    with atomic.file_beside(target) as path:
        yield path
        if (url := published_at(target)) is not None:
            put_file(path, url)


def write_text(target: Path, text: str) -> None:
    """Replace a small text file in one step."""
    with file_beside(target) as path:
        path.write_text(text, encoding="utf-8")


def commit_folder(folder: Path, target: Path, last: str, kept: Collection[str] | None = None) -> bool:
    """Rename `folder` to `target`, or return False if `target` was there first, here or at its URL.

    At a URL its file `last` is what makes it complete: it is written after all others, and only if there is none. Of a
    folder that is published, only the files `kept` keep their content here, if these are given; all keep their sizes.
    """
    url = published_at(target)
    if url is not None:
        if look_at(f"{url}/{last}") is not None:
            return False
        put_files({path: f"{url}/{name}" for name, path in files_below(folder, {last}).items()})
        if not create_object(f"{url}/{last}", (folder / last).read_bytes()):
            return False
        for path in [] if kept is None else files_below(folder, {last, *kept}).values():
            hollow(path, path.stat().st_size)
    return atomic.commit_folder(folder, target)


def hollow(path: Path, size: int) -> None:
    """Make a file of `size` that takes no room: its content lies elsewhere."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        os.truncate(file.fileno(), size)


def remove_file(path: Path) -> None:
    """Remove a file, if there is one."""
    if (url := published_at(path)) is not None:
        remove_objects([url])
    path.unlink(missing_ok=True)


def remove_folder(folder: Path, first: str | None = None) -> None:
    """Remove a folder and all in it; where it is published, its file `first` before all others. Of a link to a folder
    nothing but the link goes; a file that stands in its place goes, too."""
    if (url := published_at(folder)) is not None:
        remove_objects([] if first is None else [f"{url}/{first}"])
        remove_objects(f"{url}/{name}" for name in list_objects(url))
    if folder.is_symlink() or folder.is_file():
        folder.unlink()
    elif url is None or folder.exists():  # what is published need not lie here
        shutil.rmtree(folder)

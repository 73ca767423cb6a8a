"""Files under URLs, by fsspec: read, listed, fetched. What fails is tried again, with longer and longer pauses.

Whatever a library raises ends as FileNotFoundError or as one StorageError that names the URL.
"""

import logging
import os
import random
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from schemas.errors import StorageError
from schemas.shown import quoted
from schemas.storage.atomic import DISK_FULL, system_error
from schemas.storage.regular import RECORD_BYTES
from schemas.storage.remote import require_scheme
from schemas.storage.s3_pages import Page, is_s3, read_page

TRIES = 6
FIRST_PAUSE = 0.25  # seconds, doubled at every try
AT_ONCE = 16  # requests of one process
# What no second try mends, also by name, because their libraries are not imported here.
_FINAL = (PermissionError, IsADirectoryError, NotADirectoryError, ImportError, NotImplementedError,
          TypeError, ValueError)  # fmt: skip
_FINAL_NAMES = ("NoCredentialsError", "PartialCredentialsError", "ParamValidationError", "ProfileNotFound")
_STRANGE = re.compile(r"(?:^|/)\.{0,2}(?:/|$)|\0")  # a part of a path that is empty, . or ..
_VERSIONS = ("ETag", "etag", "sha256", "md5Hash", "blob_id", "mtime", "LastModified", "last_modified", "created")

T = TypeVar("T")
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Listed:
    """A file as its storage lists it."""

    bytes: int | None
    version: str  # another one after the file was replaced


def read_object(url: str, limit: int = RECORD_BYTES) -> bytes:
    """All bytes of a small file. Raises FileNotFoundError, StorageError; also where it has more than `limit` bytes."""
    content = read_beginning(url, limit + 1)
    if len(content) > limit:
        raise StorageError(f"cannot read {url}: it is larger than the {limit:,} bytes that such a file may have")
    return content


def read_beginning(url: str, count: int) -> bytes:
    """The first `count` bytes of a file, or all that it has. Raises FileNotFoundError, StorageError."""
    return bytes(attempt(url, "read", lambda files, path: files.cat_file(path, start=0, end=count)))


def read_objects(urls: Iterable[str]) -> list[bytes]:
    """The bytes of several small files, in order, some read at once. Raises as `read_object` does."""
    return at_once(read_object, list(urls))


def list_objects(url: str) -> dict[str, Listed]:
    """Every file below the folder `url`, by its path below it, sorted; none where there is no such folder.

    Raises StorageError; also where a name would lie elsewhere on a disk, as a/../../b does.
    """
    try:
        found = dict(_list_pages(url) if attempt(url, "list", lambda files, path: is_s3(files)) else _list_all(url))
    except FileNotFoundError:
        return {}
    if strange := next((name for name in found if _STRANGE.search(name)), None):
        raise StorageError(f"{url} holds {quoted(strange)}, which is no name for a file below a folder; remove it")
    return dict(sorted(found.items()))


def _list_pages(url: str) -> Iterator[tuple[str, Listed]]:
    """Of S3, each page of which is tried again by itself."""
    token = None
    while True:
        page: Page = attempt(url, "list", partial(read_page, token=token))
        for name, (size, tag) in page.files.items():
            yield name, Listed(size, _version(size, tag))
        if (token := page.token) is None:
            return


def _list_all(url: str) -> Iterator[tuple[str, Listed]]:
    base = url.rstrip("/") + "/"
    for name, about in _list(url, lambda files, path: files.find(path, detail=True)).items():
        if name.startswith(base):
            yield name.removeprefix(base), _listed(about)


def match_objects(url: str) -> dict[str, Listed | None]:
    """The files that a pattern fits, by URL, sorted; None for a folder."""
    found = _list(url, lambda files, path: files.glob(path, detail=True))
    return {name: None if about.get("type") == "directory" else _listed(about) for name, about in found.items()}


def _list(url: str, action: Callable[[Any, str], dict[str, Any]]) -> dict[str, dict[str, Any]]:
    found, path = attempt(url, "list", lambda files, path: (action(files, path), path))
    before = url.removesuffix(path.lstrip("/"))  # a scheme, or a scheme and a host
    return {f"{before}{name.strip('/')}": about for name, about in sorted(found.items())}


def look_at(url: str) -> Listed | None:
    """The file `url`; None if there is none. Raises StorageError."""
    try:
        about = attempt(url, "look for", lambda files, path: files.info(path))
    except FileNotFoundError:
        return None
    return None if about.get("type") == "directory" else _listed(about)


def fetch_object(url: str, target: Path, size: int | None = None) -> None:
    """Copy a file, of `size` bytes where that is known, to `target`, whose folder is made.

    Raises FileNotFoundError, StorageError, OSError of this disk.
    """
    target.parent.mkdir(parents=True, exist_ok=True)

    def fetch(files: Any, path: str) -> None:
        files.get_file(path, str(target))
        if size not in (None, found := target.stat().st_size):
            raise OSError(f"{found:,} of {size:,} bytes came")

    attempt(url, "fetch", fetch)


def fetch_objects(urls: dict[str, Path]) -> None:
    """Copy several files, some at once. Raises as `fetch_object` does, at the first that fails."""
    at_once(lambda pair: fetch_object(*pair), list(urls.items()))


def at_once(action: Callable[[Any], T], items: list[Any]) -> list[T]:
    """What `action` gives of each item, in order, of some at once. Raises what the first that fails does."""
    if len(items) < 2:
        return [action(item) for item in items]
    with ThreadPoolExecutor(min(AT_ONCE, len(items))) as pool:
        return list(pool.map(action, items))


def _listed(about: dict[str, Any]) -> Listed:
    version = next((str(about[name]) for name in _VERSIONS if about.get(name)), "")
    return Listed(about.get("size"), _version(about.get("size"), version))


def _version(size: int | None, version: str) -> str:
    return f"{size} {version}"


def attempt(url: str, doing: str, action: Callable[[Any, str], T]) -> T:
    """What `action` gives of fsspec's file system and the path of `url` in it, tried again where that may help.

    Raises FileNotFoundError and FileExistsError as it does; StorageError for what else goes wrong, `doing` it; OSError
    where this machine's disk is full.
    """
    pause = FIRST_PAUSE
    for tries in range(1, TRIES + 1):
        try:
            files, path, guard = _open(url)
            with guard:
                return action(files, path)
        except (FileNotFoundError, FileExistsError):
            raise
        except Exception as error:
            if system_error(error) in DISK_FULL:  # of this machine
                raise
            if isinstance(error, _FINAL) or type(error).__name__ in _FINAL_NAMES:
                raise StorageError(f"cannot {doing} {url}: {_said(error)}") from error
            if tries == TRIES:
                raise StorageError(f"cannot {doing} {url}: {_said(error)} (tried {TRIES} times)") from error
            wait = pause * random.uniform(0.5, 1)  # several workers must not come back in step
            logger.warning("cannot %s %s: %s; trying again (%d of %d)", doing, url, _said(error), tries, TRIES - 1)
            time.sleep(wait)
            pause *= 2
    raise AssertionError


_opened: dict[Any, tuple[Any, AbstractContextManager[Any]]] = {}


def opened_schemes() -> set[str]:
    """The schemes, with their other names, of all storages that this process has asked for something."""
    return {
        scheme
        for _, kind, _ in _opened
        for scheme in ([kind.protocol] if isinstance(kind.protocol, str) else kind.protocol)
    }


def _open(url: str) -> tuple[Any, str, AbstractContextManager[Any]]:
    """The file system of a URL, the path in it, and what to hold while it is used, if threads may not share it."""
    import fsspec

    kind = fsspec.get_filesystem_class(require_scheme(url))
    options = kind._get_kwargs_from_urls(url)
    key = os.getpid(), kind, tuple(sorted(options.items()))
    if key not in _opened:
        # One for all threads, where fsspec would open one for each; listings that are kept would hide what is new.
        files = kind(**options, use_listings_cache=False, skip_instance_cache=True)
        if hasattr(files, "retries"):
            files.retries = 1  # ours: two such loops, one in the other, would take minutes to give up
        _opened.setdefault(key, (files, nullcontext() if files.async_impl else threading.Lock()))
    return _opened[key][0], kind._strip_protocol(url), _opened[key][1]


def _said(error: Exception) -> str:
    text = " ".join(str(error).split())[:400]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__

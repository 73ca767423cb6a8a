"""A storage as one object: where on this machine the bytes of its URLs lie.

A new storage is a module of `schemas.storage.storages` with a `STORAGE`, or an entry point of the group
`stillroom.storages`: one for `lake://…` may know where every machine of a team has mounted the lake. A URL of no known
storage is refused, because as a path it would silently become a folder of that name.
"""

import os
import re
from abc import ABC, abstractmethod
from functools import partial
from pathlib import Path
from typing import Any

from schemas.form import require_instance
from schemas.registry import Registry
from schemas.shown import quoted

# `Path` makes one slash of two. A scheme of one letter is not taken for one.
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")


class Storage(ABC):
    """Files and folders under URLs `name://…`, which processes of this machine reach as a file system.

    It must keep what `schemas.storage` relies on: exclusive creation, and a rename that replaces in one step.
    """

    name: str

    @abstractmethod
    def locate(self, url: str) -> Path:
        """The absolute path of `url` on this machine, whether something lies there or not.

        Raises ValueError that says what is wrong with the URL, and how to write it.
        """


STORAGES: Registry[Storage] = Registry(
    "storage", "schemas.storage.storages", "STORAGE", "stillroom.storages", partial(require_instance, base=Storage)
)


def locate(place: str | Path) -> Path:
    """The path of `place`, which is a path or the URL of a known storage; `~` and `~user` begin at a home folder.

    Raises ValueError: another URL, as s3://bucket/cache is, with the way out; a name that no file can have, or the home
    of a user who is not there.
    ConfigError: a storage of another package that fails.
    """
    text = os.fspath(place)
    _require_name(text)
    name = scheme_of(text)
    if name is None:
        return _expand(text)
    if name not in STORAGES:
        known = ", ".join(f"{other}://" for other in STORAGES)
        raise ValueError(
            f"{quoted(text)} is a URL, and a path of this machine is wanted: mount the storage and give its "
            f"folder, or copy the files (URLs of {known} are known)"
        )
    try:
        with STORAGES.using(name, ValueError) as storage:
            found: Any = storage.locate(text)
            if not isinstance(found, Path):
                raise TypeError(f"its `locate` answered {quoted(found)}, which is not a Path")
    except ValueError as error:
        raise ValueError(f"{quoted(text)} is not a URL of the storage {name}: {error}") from error
    if not found.is_absolute():
        raise ValueError(f"{quoted(text)} is at {quoted(str(found))} by the storage {name}: not a whole path")
    _require_name(str(found))
    return Path(found)


def scheme_of(place: str) -> str | None:
    """The scheme of a URL, in lower case; None for a path."""
    found = _URL.match(place)
    return None if found is None else found[1].lower()


def _expand(path: str) -> Path:
    found = os.path.expanduser(path)
    if found.startswith("~"):
        raise ValueError(f"{quoted(path)}: there is no such home; write ./~ for a folder of that name")
    # `Path` drops the ./ of ./~, which would be a home to whoever reads the path again.
    return Path(found).absolute() if str(Path(found)).startswith("~") else Path(found)


def _require_name(path: str) -> None:
    """Raises ValueError unless files can have the name; half a character is one, from `os.fsencode`."""
    if b"\0" in os.fsencode(path):
        raise ValueError(f"{quoted(path)} holds a zero byte, which no name can")

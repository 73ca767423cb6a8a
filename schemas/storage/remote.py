"""The names of what lies elsewhere: URLs of any scheme that fsspec knows, and where on this machine their copies lie.

HOME/s3/bucket/folder/file is the copy of s3://bucket/folder/file: either name follows from the other. Nothing here
touches a network, or imports fsspec for a path.
"""

import os
import re
from importlib.util import find_spec
from pathlib import Path

from schemas.shown import quoted
from schemas.storage.storage import STORAGES, locate, scheme_of

HOME = "STILLROOM_CACHE"
_WORK, _GGUF = ".work", ".gguf"  # below the home
LONGEST_NAME = 255  # bytes of a file's name
_OWN = ("file", "local")  # paths of this machine
WAY_OUT = "pip install 'stillroom[remote]'"


def copies_home() -> Path:
    """The folder that holds all copies: $STILLROOM_CACHE, else stillroom in the user's folder for caches."""
    named = os.environ.get(HOME)
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.path.realpath(os.path.expanduser(named or f"{base}/stillroom")))


def is_remote(place: str | Path) -> bool:
    """Whether `place` is a URL that no storage of `schemas.storage.storages` finds on this machine."""
    scheme = scheme_of(os.fspath(place))
    return scheme is not None and scheme not in STORAGES


def locate_anywhere(place: str | Path) -> Path:
    """The path of `place` on this machine, or where the copy of what lies elsewhere belongs, if it is there or not.

    Raises ValueError: as `locate` does, a scheme that nobody knows, or one whose package is not installed.
    """
    return copy_path(os.fspath(place)) if is_remote(place) else locate(place)


def copy_path(url: str) -> Path:
    """Where the copy of `url` belongs. Raises ValueError: an unknown scheme, no package for it, no name for a file."""
    scheme = require_scheme(url)
    names = url.partition("://")[2].rstrip("/").split("/") if "://" in url else [""]
    for name in names:
        if name in ("", ".", "..") or "\0" in name or len(os.fsencode(name)) > LONGEST_NAME:
            raise ValueError(f"{quoted(url)}: a URL is {scheme}://name/name, and {quoted(name)} is no name for a file")
    return copies_home().joinpath(scheme, *names)


def work_path(url: str, apart: str = "") -> Path:
    """Where what is to lie at `url` is worked on, or in a hidden folder `apart` from that. Raises ValueError as
    `copy_path` does."""
    return copies_home() / _WORK / apart / copy_path(url).relative_to(copies_home())


def gguf_path(file: Path) -> Path:
    """Where the folder of a model lies that stands for the GGUF file at an absolute path."""
    return copies_home() / _GGUF / file.relative_to(file.anchor)


def url_of(path: Path) -> str | None:
    """The URL of which `path` is the copy; None for any other path."""
    home = copies_home()
    if not path.is_relative_to(home):
        return None
    scheme, *names = path.relative_to(home).parts or ("",)
    return f"{scheme}://{'/'.join(names)}" if names and not scheme.startswith(".") else None


def named(text: str) -> str:
    """A text in which every path of a copy is the URL, or the GGUF file, that the user knows it by."""
    home = re.escape(str(copies_home()))
    text = re.sub(rf"{home}/{re.escape(_GGUF)}/", "/", text)
    return re.sub(rf"{home}/(?:{re.escape(_WORK)}/(?:\.[^/]+/)?)?([a-z][a-z0-9+.-]*)/", r"\1://", text)


def require_scheme(url: str) -> str:
    """The scheme of a URL that this installation reads. Raises ValueError with the `pip install` that it takes."""
    scheme = scheme_of(url) or ""
    if find_spec("fsspec") is None:
        raise ValueError(f"{quoted(url)}: URLs need the package fsspec: {WAY_OUT}")
    from fsspec.registry import known_implementations, registry

    if scheme in _OWN or (scheme not in known_implementations and scheme not in registry):
        known = ", ".join(f"{name}://" for name in ("s3", "gs", "az", "hf", "https", *STORAGES))
        raise ValueError(
            f"{quoted(url)} is a URL of a scheme that nobody here knows ({known} are known, and others of fsspec); "
            "mount the storage and give its folder, or install the package that brings the scheme"
        )
    if scheme not in registry:
        package = known_implementations[scheme]["class"].split(".")[0]
        if find_spec(package) is None:
            raise ValueError(f"{quoted(url)}: {scheme}:// needs a package that is not installed: pip install {package}")
    return scheme


def other_names(scheme: str) -> set[str]:
    """Every scheme that means the same storage, this one among them: s3a beside s3, abfs beside az."""
    from fsspec.registry import known_implementations

    def implementation(name: str) -> str:
        return str(known_implementations.get(name, {}).get("class", name))

    return {scheme, *(name for name in known_implementations if implementation(name) == implementation(scheme))}

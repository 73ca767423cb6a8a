"""Files of a cache, for tests that say what is the same and what is damaged."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NOBODY = 65534


def hashes(cache: Path) -> dict[str, str]:
    """SHA-256 of every file but the log, by its path below the cache."""
    paths = (path for path in sorted(cache.rglob("*")) if path.is_file() and path.name != "extraction.jsonl")
    return {path.relative_to(cache).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def damage(path: Path) -> None:
    """Change one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


@contextmanager
def as_no_root(folder: Path) -> Iterator[None]:
    """Root may read everything: inside, somebody else runs, who owns `folder`."""
    if os.geteuid() != 0:
        yield
        return
    for path in (folder, *folder.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)

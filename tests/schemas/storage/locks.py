"""Locks as the tests take them."""

from pathlib import Path

from schemas.errors import CacheError
from schemas.storage.lock import Lock, acquire


def take(path: Path, said: list[str] | None = None) -> Lock:
    return acquire(path, lambda holder: CacheError(f"busy: {holder}"), (said if said is not None else []).append)

"""Files of a cache, for tests that say what is the same and what is damaged."""

import hashlib
from pathlib import Path


def hashes(cache: Path) -> dict[str, str]:
    """SHA-256 of every file but the log, by its path below the cache."""
    paths = (path for path in sorted(cache.rglob("*")) if path.is_file() and path.name != "extraction.jsonl")
    return {path.relative_to(cache).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def damage(path: Path) -> None:
    """Change one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))

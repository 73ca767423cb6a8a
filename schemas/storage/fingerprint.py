"""A cache's identity: a hash of everything that changes a byte of it, and the difference between two identities."""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from schemas.storage.regular import open_regular
from schemas.strict import canonical_json


def fingerprint(identity: dict[str, Any]) -> str:
    """Hex SHA-256 of `identity` in canonical JSON: the same on every machine and Python."""
    return hashlib.sha256(canonical_json(identity).encode()).hexdigest()


def hash_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes (what `sha256sum` prints), read in bounded memory."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_files(root: Path, paths: Iterable[Path]) -> str:
    """One hash over names (relative to `root`) and contents; the order of `paths` does not matter."""
    return fingerprint({path.relative_to(root).as_posix(): hash_file(path) for path in paths})


def differences(found: dict[str, Any], wanted: dict[str, Any]) -> Iterator[str]:
    """One line for each field in which two identities differ, as `teacher.dtype: found X, wanted Y`."""
    left, right = dict(_flatten(found)), dict(_flatten(wanted))
    for key in sorted(left.keys() | right.keys()):
        if left.get(key) != right.get(key):
            yield f"{key}: found {_brief(left.get(key))}, wanted {_brief(right.get(key))}"


def _flatten(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _flatten(item, f"{prefix}.{key}" if prefix else key)
    else:
        yield prefix, value


def _brief(value: Any) -> str:
    text = canonical_json(value)
    return text if len(text) <= 60 else f"{text[:28]}…{text[-28:]}"

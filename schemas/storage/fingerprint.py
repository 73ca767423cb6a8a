"""A cache's identity: a hash of everything that changes a byte of it, and the difference between two identities."""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeGuard

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


def differences(found: dict[str, Any], wanted: dict[str, Any], section: str = "") -> Iterator[str]:
    """One line for each field in which two identities differ, as `teacher.dtype: found X, wanted Y`.

    Where a section holds sections, such as a cache's arrays, those that only one identity has are named in one line:
    `states: hidden/20, hidden/25 are wanted and not found`. In lists of sections, such as losses, they have numbers:
    `objective.0.loss: found "ce", wanted "mta"`.
    """
    missing, extra = list[str](), list[str]()
    for key in sorted(found.keys() | wanted.keys()):
        left, right = found.get(key), wanted.get(key)
        place = f"{section}.{key}" if section else key
        if isinstance(left, dict) and isinstance(right, dict):
            yield from differences(left, right, place)
        elif _are_sections(left) and _are_sections(right):
            yield from _numbered_differences(left, right, place)
        elif section and left is None and isinstance(right, dict):
            missing.append(key)
        elif section and right is None and isinstance(left, dict):
            extra.append(key)
        elif left != right:
            yield f"{place}: found {_brief(left)}, wanted {_brief(right)}"
    for names, said in ((missing, "wanted and not found"), (extra, "found and not wanted")):
        if names:
            yield f"{section}: {', '.join(names)} {'is' if len(names) == 1 else 'are'} {said}"


def _are_sections(value: Any) -> TypeGuard[list[dict[str, Any]]]:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def _numbered_differences(found: list[dict[str, Any]], wanted: list[dict[str, Any]], section: str) -> Iterator[str]:
    """Of two of different kinds, say losses, what is wrong with both: their names are; what one alone has says less."""
    for number, (left, right) in enumerate(zip(found, wanted, strict=False)):
        place, both = f"{section}.{number}", left.keys() & right.keys()
        shared = differences({key: left[key] for key in both}, {key: right[key] for key in both}, place)
        yield from list(shared) or differences(left, right, place)
    if len(found) != len(wanted):
        yield f"{section}: found {len(found)}, wanted {len(wanted)} of them"


def _brief(value: Any) -> str:
    text = canonical_json(value)
    return text if len(text) <= 60 else f"{text[:28]}…{text[-28:]}"

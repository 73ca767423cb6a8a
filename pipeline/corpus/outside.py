"""A cache must not lie where its own corpus is looked for: once it is begun, its files would be taken for records."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from glob import has_magic
from pathlib import Path

from schemas.cache.manifest import INDEX, MANIFEST, TEACHER
from schemas.cache.shard import RECORD, SAMPLES, STATES, shard_path
from schemas.errors import CorpusError
from schemas.shown import quoted
from schemas.storage.remote import is_remote, locate_anywhere


def require_outside(output: Path, patterns: Sequence[str]) -> None:
    """Raises CorpusError if `patterns`, as `corpus.files` gives them, would take files of the cache `output`."""
    for pattern in patterns:
        try:
            path = locate_anywhere(pattern)  # of copies, whose places tell as much, nothing may be here yet
            folder = path.is_dir() or (is_remote(pattern) and not has_magic(pattern))
            taken = _takes_folder(path, output) if folder else has_magic(str(path)) and _takes(path, output)
        except (OSError, ValueError):
            continue  # `find_files` says what is wrong with it
        if taken:
            raise CorpusError(
                f"the output {output} lies within the corpus {quoted(pattern)}, which would take the cache's own files "
                "for records; give it a place outside, or name the corpus files alone"
            )


def _takes_folder(folder: Path, output: Path) -> bool:
    """Returns whether the folder is walked as far as `output`; what is hidden is passed over."""
    whole, inner = folder.resolve(), output.resolve()
    return inner.is_relative_to(whole) and not any(part.startswith(".") for part in inner.relative_to(whole).parts)


def _takes(pattern: Path, output: Path) -> bool:
    """Returns whether a glob gives the output, a folder around it, or one of its files."""
    parts = pattern.absolute().parts
    plain = next(number for number, part in enumerate(parts) if has_magic(part))
    base, inner = Path(*parts[:plain]).resolve(), output.resolve()
    if not inner.is_relative_to(base):
        return False
    wanted, below = parts[plain:], inner.relative_to(base).parts
    if any(_matches(wanted, below + file) for file in _files()):
        return True
    folders = [below[:depth] for depth in range(len(below) + 1)] if "**" not in str(pattern) else []
    return any(_matches(wanted, folder) and _takes_folder(base.joinpath(*folder), output) for folder in folders)


def _files() -> list[tuple[str, ...]]:
    """A file of each kind that a cache holds, below it."""
    shard = shard_path(Path(), 0)
    files = (
        MANIFEST,
        INDEX,
        f"{TEACHER}/tokenizer.json",
        shard / SAMPLES,
        shard / RECORD,
        shard / STATES / "zarr.json",
    )
    return [Path(file).parts for file in files]


def _matches(pattern: tuple[str, ...], parts: tuple[str, ...]) -> bool:
    """Whether a glob's parts match a path's, as `glob` has it: ** is any number of them, and a * is not hidden."""
    if not pattern or not parts:
        return not parts and all(part == "**" for part in pattern)
    hidden = parts[0].startswith(".")
    if pattern[0] == "**":
        return _matches(pattern[1:], parts) or (not hidden and _matches(pattern, parts[1:]))
    fits = fnmatchcase(parts[0], pattern[0]) and (not hidden or pattern[0].startswith("."))
    return fits and _matches(pattern[1:], parts[1:])

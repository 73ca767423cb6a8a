"""Which files a corpus has: names, globs and folders. No file is left out silently.

A file of a folder or glob is read, or known not to be data, or hidden and named as left out, or refused.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from glob import glob, has_magic
from pathlib import Path

from schemas.errors import CorpusError
from schemas.shown import listed, quoted
from schemas.storage.copied_files import copy_files
from schemas.storage.regular import require_regular
from schemas.storage.remote import is_remote
from schemas.storage.storage import locate
from schemas.texts.format import find_format, known_suffixes
from schemas.texts.saved import SPLITS, require_one_split, saved_files

# Beside the data of a data set, and not data themselves.
_DESCRIPTIONS = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")
_OTHER_NAMES = ("readme", "license", "licence", "notice", "changelog", "makefile", "_success", "_metadata")
_OTHER_SUFFIXES = (".md", ".rst", ".py", ".ipynb", ".yaml", ".yml", ".toml", ".lock", ".crc", ".sha256", ".md5")


@dataclass(frozen=True)
class FoundFiles:
    """Files in the order in which they are read, and with the reason those that look like data and are left out."""

    files: tuple[Path, ...]
    left_out: tuple[tuple[Path, str], ...]


def find_files(patterns: list[str]) -> FoundFiles:
    """The files that `patterns` name, in their order; a folder or glob gives its files sorted, and no file comes twice.
    Files under URLs are copied to this machine.

    Of a data set that `datasets` has saved, its own files are read in its own order, one split alone.

    Raises CorpusError: nothing matches, a name that cannot be one, a URL of an unknown scheme, a folder that cannot be
    listed, or a file that is not regular or of an unknown kind; a saved data set of several splits, or one that is not
    whole. StorageError: a URL that cannot be reached.
    """
    files: dict[Path, None] = {}
    left_out: dict[Path, str] = {}
    for pattern in patterns:
        try:
            for file in _matching(pattern, left_out):
                files[file] = None
        except (OSError, ValueError) as error:
            raise CorpusError(f"cannot look for corpus files {quoted(pattern)}: {_why(error)}") from error
    return FoundFiles(tuple(files), tuple((path, why) for path, why in left_out.items() if path not in files))


def _matching(pattern: str, left_out: dict[Path, str]) -> list[Path]:
    path = copy_files(pattern) if is_remote(pattern) else locate(pattern)
    if path.is_dir():
        return _in_folder(path, left_out)
    if path.exists():  # before globbing: a file's own name may hold brackets
        return [_require_known(path)]
    if not has_magic(str(path)):
        raise CorpusError(f"there is no corpus file {path}")
    found: list[Path] = []
    for match in sorted(map(Path, glob(str(path), recursive=True))):
        if match.is_dir():
            found += [] if "**" in pattern else _in_folder(match, left_out)
        elif not _is_other(match, left_out):
            found.append(_require_known(match))
    if not found:
        raise CorpusError(f"no file matches {pattern}")
    return found


def _in_folder(folder: Path, left_out: dict[Path, str]) -> list[Path]:
    found = [path for path in sorted(_walk(folder, left_out)) if not _is_other(path, left_out)]
    unknown = [path for path in found if find_format(path) is None or not path.is_file()]
    if unknown:
        names = listed(str(path.relative_to(folder)) for path in unknown)
        raise CorpusError(
            f"the folder {folder} holds files that cannot be read as records ({known_suffixes()}): {names}; name those "
            f"that are meant, for example {folder}/*.jsonl, or move the others away"
        )
    found = list(_as_saved(found, left_out))
    if not found:
        raise CorpusError(f"the folder {folder} holds no corpus file ({known_suffixes()})")
    return found


def _as_saved(found: list[Path], left_out: dict[Path, str]) -> Iterator[Path]:
    """`found`, but of a saved data set its own files alone, in its own order."""
    saved = {folder: saved_files(folder) for folder in {path.parent for path in found}}
    for path in found:
        own = saved[path.parent]
        if own is not None and path not in own:
            left_out[path] = "not of the saved data set"
        elif own is None:
            yield path
        elif path == min(own):
            yield from own


def _walk(folder: Path, left_out: dict[Path, str]) -> Iterator[Path]:
    """Every file below `folder` that is not hidden; linked folders are entered, each once."""
    seen: set[tuple[int, int]] = set()
    for place, folders, names in os.walk(folder, onerror=_raise, followlinks=True):
        status = os.stat(place)
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        if SPLITS in names:
            require_one_split(Path(place))
        for hidden in [name for name in folders if name.startswith(".")]:
            folders.remove(hidden)
            left_out |= {path: "in a hidden folder" for path in Path(place, hidden).rglob("*") if _is_data(path)}
        for name in names:
            path = Path(place, name)
            if not name.startswith("."):
                yield path
            elif _is_data(path):
                left_out[path] = "hidden"


def _is_data(path: Path) -> bool:
    return path.is_file() and find_format(path) is not None


def _is_other(path: Path, left_out: dict[Path, str]) -> bool:
    """Returns whether a file that was not named itself is known not to be data."""
    name = path.name.lower()
    if name in _DESCRIPTIONS:
        left_out[path] = "describes a data set"
        return True
    return (name.startswith(_OTHER_NAMES) and find_format(path) is None) or name.endswith(_OTHER_SUFFIXES)


def _require_known(path: Path) -> Path:
    if find_format(path) is None:
        raise CorpusError(f"{path}: not a kind of corpus file that is read here ({known_suffixes()})")
    try:
        require_regular(path)
    except OSError as error:
        raise CorpusError(f"cannot read {path}: {error.strerror}") from error
    return path


def _raise(error: OSError) -> None:
    raise error


def _why(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)

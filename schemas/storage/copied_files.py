"""Files under URLs as copies on this machine: of a corpus, and of a model's folder.

What is asked for is looked up at its source each time, and copied if it is not here as it is there now. It is used
until the process ends.
"""

from glob import glob, has_magic
from pathlib import Path

from schemas.storage.copies import Made, Thing, open_copies
from schemas.storage.objects import Listed, fetch_object, list_objects, look_at, match_objects
from schemas.storage.remote import copy_path


def copy_files(url: str) -> Path:
    """Copy the file or folder `url`, or what the pattern `url` fits; returns the path of the copy, or a pattern for it.

    What is no more at the source goes from the copy, too. Where there is nothing, there is no copy. Raises ValueError:
    no such URL; StorageError, ResourceError.
    """
    path = copy_path(url)
    if (listed := look_at(url)) is not None:  # first: a file's own name may hold brackets
        _copy(url, listed)
    elif has_magic(url):
        found = match_objects(url)
        for name, about in found.items():
            _copy_folder(name) if about is None else _copy(name, about)
        kept = {copy_path(name) for name in found}
        _forget([Path(name) for name in glob(str(path), recursive=True)], kept)
    else:
        _copy_folder(url)
    return path


def _copy_folder(url: str) -> None:
    base, found = url.rstrip("/"), list_objects(url)
    for name, listed in found.items():
        _copy(f"{base}/{name}", listed)
    _forget(list(copy_path(url).rglob("*")), {copy_path(f"{base}/{name}") for name in found})


def _forget(paths: list[Path], kept: set[Path]) -> None:
    for path in paths:
        if path not in kept and path.is_file():
            open_copies().forget(path)


def _copy(url: str, listed: Listed) -> None:
    def fetch(target: Path) -> None:
        fetch_object(url, target, listed.bytes)

    open_copies().use(Thing(copy_path(url), listed.version, lambda: Made(listed.bytes or 0, fetch), stays=True))

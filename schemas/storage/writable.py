"""Outputs that can be written where a user wants them: asked before the work, not when it is done."""

import os
from pathlib import Path

from schemas.errors import RunError
from schemas.storage.record import names_format
from schemas.storage.storage import locate

# The record of a folder in which nothing else may lie, its format, and what the folder is.
PUBLISHED = (("cache.json", "stillroom-cache", "a cache"), ("run.json", "stillroom-run", "a run"))


def require_apart(target: Path) -> None:
    """Raises RunError if the folder `target` would lie inside a cache or a run, where it would be taken for a part.

    One that holds a record of its own is left alone: it was made there before this was asked.
    """
    if _published(target):
        return
    for folder in Path(os.path.realpath(target)).parents:  # `Path.resolve` raises for links in a circle
        if what := _published(folder):
            raise RunError(f"cannot write to {target}: {folder} is {what}; give a place outside it")


def _published(folder: Path) -> str | None:
    """What `folder` is by its record; a file of another program may bear the same name."""
    return next((what for record, form, what in PUBLISHED if names_format(folder / record, form)), None)


def require_writable(target: Path) -> None:
    """Raises RunError if `target` cannot be made, or written into where it is a folder, or replaced where it is a file.

    The reasons: a URL, a file or a link to nothing where a folder would have to be, a folder that may not be written to
    or is on a read-only file system, a name that no file has. Makes nothing.
    """
    try:
        locate(target)
        nearest = next(path for path in (target, *target.absolute().parents) if path.exists())
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise RunError(f"cannot write to {target}: {reason}; give another place") from error
    if link := next((path for path in target.absolute().parents if path.is_symlink() and not path.exists()), None):
        raise RunError(f"cannot write to {target}: {link} is a link to nothing; give another place")
    folder = nearest.absolute().parent if nearest == target and not nearest.is_dir() else nearest
    if not folder.is_dir():
        raise RunError(f"cannot write to {target}: {folder} is a file; give another place")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise RunError(f"cannot write to {target}: {folder} may not be written to; give another place")

"""Whether an output can be written where a user wants it: asked before the work, not when it is done."""

import os
from pathlib import Path

from schemas.errors import RunError


def require_place(target: Path) -> None:
    """Raises RunError if `target` is not there and cannot be made: a file where a folder would have to be, a folder
    that may not be written to, a name that is too long. Makes nothing."""
    try:
        nearest = next(path for path in (target, *target.absolute().parents) if path.exists())
    except OSError as error:
        raise RunError(f"cannot write to {target}: {error.strerror}; give another place") from error
    if nearest == target:
        return
    if not nearest.is_dir():
        raise RunError(f"cannot write to {target}: {nearest} is a file; give another place")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise RunError(f"cannot write to {target}: {nearest} may not be written to; give another place")

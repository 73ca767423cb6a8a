"""Paths name places on this machine. A URL is refused, because it would silently become a folder of that name."""

import os
import re

from schemas.shown import quoted

# `Path` makes one slash of two. A scheme of one letter is not taken for one.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")


def require_local(path: object) -> None:
    """Raises ValueError: a URL, as s3://bucket/cache is, with the way out; a name that no file can have."""
    if b"\0" in os.fsencode(str(path)):  # which raises for half a character, as a ValueError too
        raise ValueError(f"{quoted(str(path))} holds a zero byte, which no name can")
    if _URL.match(str(path)):
        raise ValueError(
            f"{quoted(str(path))} is a URL, and a path of this machine is wanted: mount the storage and give its "
            "folder, or copy the files"
        )

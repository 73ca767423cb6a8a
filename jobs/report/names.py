"""Folders as a table's first column shows them: told apart at a glance, on a terminal of 80 columns too."""

import os
from collections.abc import Sequence
from pathlib import Path

WIDTH = 23  # of a column of names, beside five of figures


def short_names(folders: Sequence[Path], width: int = WIDTH) -> list[str]:
    """What tells the folders apart: each without the parent that all share, and shortened in the middle to `width`.

    Those that would then look alike are shown whole.
    """
    paths = [str(folder) for folder in folders]
    parent = os.path.commonpath([os.path.dirname(path) or "." for path in map(os.path.abspath, paths)])
    own = [os.path.relpath(path, parent) for path in paths] if len(set(paths)) > 1 else paths
    short = [shorten(name, width) for name in own]
    return [name if short.count(cut) > 1 else cut for name, cut in zip(own, short, strict=True)]


def shorten(name: str, width: int) -> str:
    """`name` with its middle left out, if it is longer than `width`: both ends say more than the middle."""
    if len(name) <= width:
        return name
    tail = (width - 1) // 2
    return f"{name[: width - 1 - tail]}…{name[len(name) - tail :]}"

"""Folders as a table's first column shows them: told apart at a glance, on a terminal of 80 columns too."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

WIDTH = 23  # of a column of names, beside five of figures

_WORDS = re.compile(r".+[-_./]")


def short_names(folders: Sequence[Path], width: int = WIDTH) -> list[str]:
    """Names that tell the folders apart: each without the parent that all share. Where one is longer than `width`, the
    words that all begin with are left out, and then its middle; those that would still look alike are shown whole.
    """
    paths = [str(folder) for folder in folders]
    parent = os.path.commonpath([os.path.dirname(path) or "." for path in map(os.path.abspath, paths)])
    own = [os.path.relpath(path, parent) for path in paths] if len(set(paths)) > 1 else paths
    short = own
    if len(own) > 1 and max(map(len, own)) > width:
        shared = _WORDS.match(_beginning(own))
        short = [f"…{name[shared.end() :]}" for name in own] if shared else own
    short = [shorten(name, width) for name in short]
    return [name if short.count(cut) > 1 else cut for name, cut in zip(own, short, strict=True)]


def shorten(name: str, width: int) -> str:
    """`name` with its middle left out, if it is longer than `width`: both ends say more than the middle."""
    if len(name) <= width:
        return name
    tail = (width - 1) // 2
    return f"{name[: width - 1 - tail]}…{name[len(name) - tail :]}"


def _beginning(names: Sequence[str]) -> str:
    """The characters that all names begin with: those of the first and last in order."""
    first, last = min(names), max(names)
    differ = (place for place, (one, other) in enumerate(zip(first, last, strict=False)) if one != other)
    return first[: next(differ, len(first))]

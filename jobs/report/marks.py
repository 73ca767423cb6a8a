"""A text with marks in it, so that a log file shows them as a terminal does."""

from collections.abc import Mapping

import numpy as np
from rich.text import Text

Marks = Mapping[int, tuple[str, str]]  # by their place: what closes before a character, and what opens


def learnt_characters(length: int, targets: np.ndarray) -> np.ndarray:
    """[C] bool of C characters: those in `targets` [R, 2]."""
    learnt = np.zeros(length, bool)
    for start, end in targets.tolist():
        learnt[start:end] = True
    return learnt


def mark(text: str, learnt: np.ndarray, marks: Marks, start: int = 0, end: int | None = None) -> Text:
    """The characters [start, end) of a text, dim where they are not learnt, with `marks` between them."""
    marked, stop = Text(), len(text) if end is None else end
    for place in range(start, stop + 1):
        closes, opens = marks.get(place, ("", ""))
        if place > start or not start:
            marked.append(closes, style="bold cyan")
        if place < stop or stop == len(text):
            marked.append(opens, style="bold cyan")
        if place < stop:
            marked.append(text[place], style="" if learnt[place] else "dim")
    return marked

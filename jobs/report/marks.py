"""A sample's text with marks in it, so that a log file shows them as a terminal does."""

from collections.abc import Mapping

import numpy as np
from rich.text import Text

from schemas.cache.samples import CachedSample


def mark(sample: CachedSample, marks: Mapping[int, str]) -> Text:
    """The text, dim where it is not learnt, with each of `marks` before the character at its place, or at the end."""
    text, learnt = Text(), np.zeros(len(sample.text), bool)
    for start, end in sample.targets.tolist():
        learnt[start:end] = True
    for place in range(len(sample.text) + 1):
        text.append(marks.get(place, ""), style="bold cyan")
        if place < len(sample.text):
            text.append(sample.text[place], style="" if learnt[place] else "dim")
    return text

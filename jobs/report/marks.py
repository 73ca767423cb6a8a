"""A sample's text with marks in it, so that a log file shows them as a terminal does."""

from collections.abc import Mapping

from rich.text import Text

from schemas.cache.samples import CachedSample


def mark(sample: CachedSample, marks: Mapping[int, str]) -> Text:
    """The text, its prompt dim, with each of `marks` before the character at its place, or at the end."""
    text = Text()
    for place in range(len(sample.text) + 1):
        text.append(marks.get(place, ""), style="bold cyan")
        if place < len(sample.text):
            text.append(sample.text[place], style="dim" if place < sample.prompt_end else "")
    return text

"""The console that every command prints to: what a user has named or written is shown, never read as markup or obeyed.

A name or a text may hold what clears a screen, sets a title or turns a line around: that is escaped.
"""

from collections.abc import Iterable
from typing import Any, NoReturn

from rich.console import Console
from rich.segment import Segment
from rich.text import Text

from schemas.shown import harmless
from schemas.storage.remote import named

NARROWEST = 40  # columns: below, as where COLUMNS is 0 or 1, a table would lose its content


class _Console(Console):
    """Escapes what a terminal would obey, and leaves it to the command what a closed pipe means.

    Rich itself would pass on the first, and end the command with code 1 for the second.
    """

    def render_str(self, text: str, **settings: Any) -> Text:
        """Escaped before it is laid out, so that a column is as wide as what is shown in it."""
        return super().render_str(harmless(text), **settings)

    def render(self, renderable: Any, options: Any = None) -> Iterable[Segment]:
        """Segments, each as harmless as it looks: every table, bar and line passes here."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=harmless(segment.text))

    def on_broken_pipe(self) -> NoReturn:
        """Called by rich while the error is handled. Raises BrokenPipeError, once: what is still held is dropped."""
        self.quiet = True
        raise BrokenPipeError


def make_console(stderr: bool = False) -> Console:
    """Without markup, which a sample's `[/INST]` would be, emoji codes, or colours guessed from the text."""
    console = _Console(stderr=stderr, markup=False, emoji=False, highlight=False)
    if console.width < NARROWEST:
        console.width = NARROWEST
    return console


def say(message: str) -> None:
    """Print one line of a command's result, whole however narrow the terminal is."""
    make_console().print(named(message), soft_wrap=True)

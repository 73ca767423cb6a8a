"""How far a long job has come, with its rate and the time left, on stderr.

A bar on a terminal, a plain line now and then everywhere else.
"""

import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Self, TypeVar

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from schemas.console import make_console, say

LINE_SECONDS = 15.0  # between two lines of a log file
# Set where a command was interrupted. Python loses a KeyboardInterrupt that comes amid a destructor or a callback of a
# library's; the next step then raises it once more.
interrupted = threading.Event()
Item = TypeVar("Item")


_shown: list[Bar] = []  # on the terminal, which has room for one: what begins amid another's work is a line of it


class Progress:
    """Counts what is done of `total`, in `unit`s. Where tokens are told too, there is a rate of tokens."""

    def __init__(
        self,
        name: str,
        unit: str,
        total: int,
        *,
        done: int = 0,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        """`done` of `total` were done before this call."""
        self.console = console or make_console(stderr=True)
        self._name, self._unit, self._clock = name, unit, clock
        self._bar: Bar | None = None
        self._lines = 0
        self.begin(done, total)

    def __enter__(self) -> Self:
        self._is_first = not _shown
        if self.console.is_terminal and _shown:
            self._bar = _shown[0]
            self._task = self._bar.add_task("", total=1.0, title=self._name)
        elif self.console.is_terminal:
            self._bar = _make_bar(self.console)
            self._task = self._bar.add_task("", total=1.0, title=self._name)
            self._bar.start()
            _shown.append(self._bar)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is None:
            return
        if self._is_first:
            self._bar.stop()
            _shown.clear()
        else:
            self._bar.remove_task(self._task)

    def say(self, message: str) -> None:
        """One line that stays."""
        self.console.print(message, markup=False, emoji=False, highlight=False, soft_wrap=True)

    def begin(self, done: int, total: int, total_tokens: int | None = None) -> None:
        """The work itself begins, with `done` of `total` done before: loading, say, is not its rate.

        Time left follows tokens if `total_tokens`, those still to come, is given; it may be an estimate.
        """
        self._first = self._done = done
        self._total, self._total_tokens = total, total_tokens
        self._began = self._last_line = self._clock()

    def update(self, done: int, state: str = "", tokens: int = 0) -> None:
        """`done` of the total are done, after `tokens` since `begin`. Cheap: call it as often as you like.

        Raises KeyboardInterrupt if the command was interrupted, and went on.
        """
        if interrupted.is_set():
            raise KeyboardInterrupt
        before, self._done = self._done, done
        seconds, fraction = self._clock() - self._began, self._fraction(tokens)
        parts = [f"{done:,}/{self._total:,} {self._unit}", state]
        if tokens:
            parts += [f"{tokens:,} tokens", f"{tokens / max(seconds, 1e-9):,.0f} tokens/s"]
        if 0 < fraction < 1 and done < self._total:
            parts.append(f"{timedelta(seconds=round(seconds * (1 - fraction) / fraction))} left")
        self._show(" · ".join(filter(None, parts)), fraction, at_end=before < done == self._total)

    def _fraction(self, tokens: int) -> float:
        """How much of this call's work is done."""
        if self._total_tokens is not None:
            return min(1.0, tokens / max(1, self._total_tokens))
        return (self._done - self._first) / max(1, self._total - self._first)

    def _show(self, text: str, fraction: float, at_end: bool) -> None:
        before = self._first / max(1, self._total)
        now = self._clock()
        if self._bar is not None:
            self._bar.update(self._task, completed=before + (1 - before) * fraction, description=text)
        elif now - self._last_line >= LINE_SECONDS or (at_end and self._lines):  # a short job needs no lines
            self._last_line, self._lines = now, self._lines + 1
            self.say(f"{self._name}: {text}")


class Relay:
    """The lines of another process: its `Progress` as a bar on a terminal, and every other line as it is."""

    _LINE = re.compile(r"(?P<name>.+?): (?P<text>(?P<done>[\d,]+)/(?P<total>[\d,]+) \D.*)")

    def __init__(self, name: str, console: Console | None = None):
        self._name, self.console = name, console or make_console(stderr=True)
        self._bar = _make_bar(self.console) if self.console.is_terminal else None

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._task = self._bar.add_task("", total=1.0, title=self._name)
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, line: str) -> None:
        """On stdout, unless it is shown by the bar. Raises KeyboardInterrupt as `Progress.update` does."""
        if interrupted.is_set():
            raise KeyboardInterrupt
        found = self._LINE.fullmatch(line)
        if found is None or self._bar is None:
            say(line)
            return
        done, total = (int(found[count].replace(",", "")) for count in ("done", "total"))
        self._bar.update(self._task, completed=done / max(1, total), description=found["text"], title=found["name"])


def _make_bar(console: Console) -> Bar:
    columns = (TextColumn("{task.fields[title]}", markup=False), BarColumn(40))
    return Bar(*columns, TextColumn("{task.description}", markup=False), console=console, transient=True)


def track(name: str, unit: str, items: Sequence[Item]) -> Iterator[Item]:
    """The items, one after another, with their progress."""
    with Progress(name, unit, len(items)) as progress:
        for done, item in enumerate(items):
            progress.update(done)
            yield item
        progress.update(len(items))

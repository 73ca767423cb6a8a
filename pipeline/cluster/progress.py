"""How far an extraction has come: a bar on a terminal, a plain line now and then everywhere else. On stderr."""

import time
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

LINE_SECONDS = 10.0  # between two lines of a log file


class ExtractionProgress:
    """Counts over all workers. Samples are exact and drive the bar; the rate counts from this run's first batch."""

    def __init__(self, samples: int, console: Console | None = None, clock: Callable[[], float] = time.monotonic):
        """`samples` in the whole corpus."""
        self.console = console or Console(stderr=True, markup=False, emoji=False)
        self._samples, self._done, self._clock = samples, 0, clock
        self._last_line = clock()
        self._first: tuple[float, int, int] | None = None  # moment, samples and tokens of the first batch
        self._bar: Progress | None = None

    def __enter__(self) -> Self:
        return self

    def start(self, done: int) -> None:
        """The run begins, with `done` samples on disk from earlier ones."""
        self._done, self._last_line, self._first = done, self._clock(), None
        if self.console.is_terminal:
            columns = (BarColumn(), TextColumn("{task.description}", markup=False), TimeRemainingColumn())
            self._bar = Progress(*columns, console=self.console, transient=True)
            self._bar.add_task("the teacher is loading", total=self._samples, completed=self._done)
            self._bar.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def say(self, message: str) -> None:
        """One line that stays."""
        self.console.print(message, markup=False, highlight=False, soft_wrap=True)

    def update(self, samples: int, tokens: int, size: int) -> None:
        """What this run has done so far: samples, tokens, and bytes committed. Cheap: call it as often as you like."""
        if not tokens:
            return
        now = self._clock()
        self._first = self._first or (now, samples, tokens)
        seconds = max(now - self._first[0], 1e-9)
        rate = (tokens - self._first[2]) / seconds
        text = f"{self._done + samples:,}/{self._samples:,} samples · {tokens:,} tokens · {decimal(size)}"
        text += f" · {rate:,.0f} tokens/s" if rate else ""
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=self._done + samples, description=text)
        elif now - self._last_line >= LINE_SECONDS:
            self._last_line = now
            pace = (samples - self._first[1]) / seconds
            left = self._samples - self._done - samples
            self.say(text + (f" · {timedelta(seconds=round(left / pace))} left" if pace else ""))

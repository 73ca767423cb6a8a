"""`stillroom generate`: texts that a student writes, to be extracted as one more corpus."""

import time
from collections.abc import Sequence
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from jobs.report.console import make_console
from schemas.configs.generation import GenerationConfig
from schemas.configs.yaml import load_config
from trainer.generation.generate import generate

SECONDS_BETWEEN_LINES = 15.0  # in a log file


def run_generation(path: Path, overrides: Sequence[str]) -> None:
    """Generate, then say what was written and what was left out."""
    config = load_config(path, GenerationConfig, overrides)
    with _Shown() as shown:
        result = generate(config, shown.update)
    console = make_console()
    rate = result.tokens / result.seconds
    console.print(
        f"{result.path}: {result.texts:,} texts, {result.tokens:,} tokens in {result.seconds:.0f} s "
        f"({rate:,.0f} tokens/s)",
        soft_wrap=True,
    )
    console.print(
        f"ended by the student: {result.ended:,}, cut at max_new_tokens: {result.texts - result.ended:,}; "
        f"left out: {result.blank:,} blank, {result.unusable:,} without a prompt to continue",
        soft_wrap=True,
    )


class _Shown:
    """A bar with rate and time left on a terminal, a line now and then everywhere else. On stderr."""

    def __init__(self) -> None:
        self.console = make_console(stderr=True)
        self.bar = Progress(
            TextColumn("generating"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.description}"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self.task = self.bar.add_task("", total=None)
        self.first: tuple[float, int] | None = None  # moment and tokens of the first batch: loading is not its rate
        self.last_line = time.monotonic()

    def __enter__(self) -> "_Shown":
        self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.stop()

    def update(self, done: int, total: int, tokens: int) -> None:
        """Show that `done` of `total` samples are written, `tokens` in all."""
        now = time.monotonic()
        self.first = self.first or (now, tokens)
        seconds = now - self.first[0]
        rate = f"{(tokens - self.first[1]) / seconds:,.0f} tokens/s" if seconds else ""
        self.bar.update(self.task, total=total, completed=done, description=rate)
        if not self.console.is_terminal and now - self.last_line > SECONDS_BETWEEN_LINES:
            self.last_line = now
            left = seconds / done * (total - done)
            line = f"generating: {done:,}/{total:,} samples  {rate}  {left:.0f} s left"
            self.console.print(line, soft_wrap=True)

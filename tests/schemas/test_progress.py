"""Progress where there is no terminal: lines now and then, with a rate and the time left that can be checked."""

import io
from collections.abc import Callable

import pytest
from rich.console import Console

from schemas.progress import Progress, Relay, track


class Watched:
    """A progress that writes into memory, under a clock that is set by hand."""

    def __init__(self, total: int, done: int = 0, terminal: bool = False):
        self.now, self.written = 0.0, io.StringIO()
        console = Console(file=self.written, width=200, force_terminal=terminal)
        self.progress = Progress("making", "samples", total, done=done, console=console, clock=lambda: self.now)

    def at(self, moment: float, action: Callable[[Progress], None]) -> None:
        self.now = moment
        action(self.progress)

    def lines(self) -> list[str]:
        return self.written.getvalue().splitlines()


def test_lines_tell_the_rate_of_tokens_and_the_time_left_by_them() -> None:
    watched = Watched(1000)
    with watched.progress:
        watched.at(0, lambda p: p.begin(100, 1000, total_tokens=20_000))
        watched.at(20, lambda p: p.update(100, "the teacher is loading"))
        watched.at(30, lambda p: p.begin(100, 1000, total_tokens=20_000))
        watched.at(40, lambda p: p.update(110, tokens=1_000))  # too soon for a line
        watched.at(50, lambda p: p.update(120, "1 MB written", tokens=5_000))  # long samples come first
        watched.at(110, lambda p: p.update(900, "2 MB written", tokens=16_000))
        watched.at(112, lambda p: p.update(1000, "3 MB written", tokens=20_500))  # there were more than estimated
        watched.at(113, lambda p: p.update(1000, "3 MB written", tokens=20_500))
    assert watched.lines() == [
        "making: 100/1,000 samples · the teacher is loading",
        "making: 120/1,000 samples · 1 MB written · 5,000 tokens · 250 tokens/s · 0:01:00 left",
        "making: 900/1,000 samples · 2 MB written · 16,000 tokens · 200 tokens/s · 0:00:20 left",
        "making: 1,000/1,000 samples · 3 MB written · 20,500 tokens · 250 tokens/s",
    ]


def test_without_tokens_the_time_left_follows_what_this_call_has_done() -> None:
    watched = Watched(100, done=80)
    with watched.progress:
        watched.at(30, lambda p: p.update(85, "loss 1.0"))
        watched.at(120, lambda p: p.update(100, "loss 0.5"))
    assert watched.lines() == [
        "making: 85/100 samples · loss 1.0 · 0:01:30 left",
        "making: 100/100 samples · loss 0.5",
    ]


def test_a_short_job_writes_no_line() -> None:
    watched = Watched(3)
    with watched.progress:
        for done in (1, 2, 3):
            watched.at(done, lambda p, done=done: p.update(done))  # type: ignore[misc]
    assert watched.lines() == []


def test_names_are_no_markup() -> None:
    watched = Watched(1)
    watched.progress.say("[bold]x[/bold] :cat: [/INST]")
    assert watched.lines() == ["[bold]x[/bold] :cat: [/INST]"]


def test_a_terminal_gets_a_bar_with_the_same_words() -> None:
    watched = Watched(10, terminal=True)
    with watched.progress:
        watched.at(5, lambda p: p.update(5, "half"))
    assert "5/10 samples · half · 0:00:05 left" in watched.written.getvalue()


def test_items_are_tracked_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track("reading", "shards", ["a", "b"])) == ["a", "b"]
    assert capsys.readouterr().err == ""


def test_work_amid_other_work_is_a_line_of_the_same_bar() -> None:
    outer, inner = Watched(10, terminal=True), Watched(10, terminal=True)
    with outer.progress:
        outer.at(1, lambda p: p.update(1, "one run"))
        with inner.progress:
            inner.at(5, lambda p: p.update(5, "half"))
            assert inner.progress._bar is outer.progress._bar is not None
            outer.progress._bar.refresh()
            assert "5/10 samples · half · 0:00:05 left" in outer.written.getvalue()
        assert len(outer.progress._bar.tasks) == 1
    assert inner.written.getvalue() == ""
    with inner.progress:
        inner.at(7, lambda p: p.update(7, "alone"))
    assert "7/10 samples · alone" in inner.written.getvalue()


def test_the_lines_of_another_process_are_a_bar_on_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    lines = ["hello: 3 samples", "making: 1,200/2,400 samples · 5 MB written", "12/24 is half"]
    for terminal, plain in ((False, lines), (True, [lines[0], lines[2]])):
        written = io.StringIO()
        with Relay("job", Console(file=written, width=200, force_terminal=terminal)) as relay:
            for line in lines:
                relay.show(line)
        shown = capsys.readouterr().out + (written.getvalue() if terminal else "")
        assert all(line in shown for line in plain)
        assert ("making" in written.getvalue() and "1,200/2,400 samples" in written.getvalue()) == terminal

"""The closing table of an extraction."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

from rich.console import Console

from jobs.report.extraction import figures_table
from pipeline.cluster.figures import Figures, SlowUnit

FIGURES = Figures(2, 0.0412, 95.04, 12.5, 0.05, (SlowUnit(17, 0, 8120, 10.0), SlowUnit(4, 1, 9000, 10.0)), {}, 0)


def shown(figures: Figures) -> list[list[str]]:
    console = Console(width=200, record=True)
    with console.capture() as written:
        console.print(figures_table(cast(Any, SimpleNamespace(figures=figures))))
    return [line.split("  ", 1) for line in written.get().splitlines()]


def test_what_happened_is_told_and_what_did_not_is_left_out() -> None:
    rows = {name: value.strip() for name, value in shown(FIGURES)}
    assert rows == {
        "forward": "95.0 s on 2 workers, which idled 5.0% of the time",
        "writing": "12.5 s of encoding, hashing and writing, beside the forward passes",
        "padding": "4.1% of the positions of all batches",
        "slowest units": "17 (812 tokens/s), 4 (900 tokens/s)",
        "tried again": "nothing",
    }
    troubled = replace(FIGURES, workers=1, idle=None, retries={"its worker died": 3, "a": 1}, halved=2)
    rows = {name: value.strip() for name, value in shown(troubled)}
    assert rows["forward"] == "95.0 s on 1 worker" and rows["halved batches"] == "2, because memory ran out"
    assert rows["tried again"] == "1 x a, 3 x its worker died"

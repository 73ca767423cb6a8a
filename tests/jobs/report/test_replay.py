"""The table of a replay, and what else than the cache may explain a difference."""

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch
import transformers
from rich.console import Console

from jobs.report.replay import gaps_table, other_machine, unless_experts
from pipeline.replay.gap import Gap
from pipeline.replay.replay import Replay, Replayed, SampleGap


def test_the_worst_sample_stands_beside_all_rows() -> None:
    good, bad = (SampleGap(name, 0, Gap.of(1e-5, np.full(4, size))) for name, size in (("a", 0.0), ("b", 0.5)))
    console = Console(width=150)
    with console.capture() as written:
        console.print(gaps_table(Replay([Replayed("hidden/1", 1, [good, bad])], None)))
    (row,) = [line for line in written.get().splitlines() if "hidden/1" in line]
    # Half of eight rows are off by .5: by .5 at most, by .5 times the root of a half on average.
    cells = [cell.strip() for cell in row.split("\u2502")[1:-1]]
    assert cells == ["hidden/1", "8", "0.5", "0.35", "1e-05", "0.5", "1e-05"]


def test_libraries_are_named_where_they_differ() -> None:
    here = {"torch": torch.__version__, "transformers": transformers.__version__}

    def said(**provenance: str) -> str:
        return other_machine(cast(Any, SimpleNamespace(provenance=provenance)))

    same = said(**here)
    assert same.startswith("a machine of another kind rounds otherwise")
    assert said(**here | {"torch": "1.0"}) == f"it was made with torch 1.0 and here {here['torch']}; {same}"


def test_rounding_chooses_experts_of_a_teacher_that_has_some() -> None:
    def said(chooses: bool) -> str:
        teacher = SimpleNamespace(chooses=chooses, config=SimpleNamespace(dtype="bfloat16"))
        return unless_experts(cast(Any, teacher))

    assert said(False) == "" and "rounding in bfloat16 decides" in said(True)

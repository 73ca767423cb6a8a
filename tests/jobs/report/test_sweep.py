"""The table of a sweep: means over seeds, failures with their messages, and the same as files."""

import csv
import statistics
from pathlib import Path

import pytest
from rich.table import Table

from jobs.report.sweep import Entry, read_entry, sweep_table, write_tables
from schemas.errors import RunError
from tests.jobs.report.run_folders import write_run


def rows(table: Table) -> list[list[str]]:
    return [list(map(str, row)) for row in zip(*(column.cells for column in table.columns), strict=True)]


def entries(folder: Path) -> list[Entry]:
    """Two seeds of one variant, a half-done run, one that failed, and one that never began."""
    write_run(folder / "a-seed0", [2.0, 1.5, 1.25])
    write_run(folder / "a-seed1", [2.0, 1.5, 1.75], seed=1)
    write_run(folder / "b-seed0", [1.0], finished=False)
    write_run(folder / "c-seed0", [], finished=False)
    return [
        read_entry(folder / "a-seed0", "a", 0, {"lr": "0.1"}, True, None),
        read_entry(folder / "a-seed1", "a", 1, {"lr": "0.1"}, True, None),
        read_entry(folder / "b-seed0", "b", 0, {"lr": "0.2"}, False, None),
        read_entry(folder / "c-seed0", "c", 0, {"name": "c"}, False, "step 7: loss inf | not finite"),
        read_entry(folder / "d-seed0", "d", 0, {}, False, None),
    ]


def test_variants_are_ranked_by_what_was_measured(tmp_path: Path) -> None:
    table = sweep_table(entries(tmp_path))
    assert [column.header for column in table.columns] == ["run", "seeds", "step", "loss", "bits/byte", "± std"]
    assert rows(table) == [
        ["b (unfinished)", "0/1", "10", "3.0000", "1.0000", ""],
        ["a", "2", "30", "3.0000", "1.5000", f"{statistics.stdev([1.25, 1.75]):.4f}"],
        ["c (1 failed)", "0/1", "", "", "", ""],
        ["d (unfinished)", "0/1", "", "", "", ""],
    ]
    assert table.caption == "c-seed0: step 7: loss inf | not finite"


def test_the_files_hold_every_run_and_the_table(tmp_path: Path) -> None:
    found = entries(tmp_path)
    written = write_tables(tmp_path, found)
    assert written == [tmp_path / name for name in ("table.csv", "table.md", "curves.png")]
    assert (tmp_path / "curves.png").read_bytes()[1:4] == b"PNG"
    lines = list(csv.DictReader((tmp_path / "table.csv").read_text(encoding="utf-8").splitlines()))
    assert list(lines[0])[:5] == ["run", "variant", "seed", "lr", "name"]
    assert [line["bits_per_byte"] for line in lines] == ["1.25", "1.75", "1.0", "", ""]
    assert [line["lr"] for line in lines] == ["0.1", "0.1", "0.2", "", ""]
    assert [line["finished"] for line in lines] == ["true", "true", "false", "false", "false"]
    assert [line["problem"] for line in lines[2:]] == ["", "step 7: loss inf | not finite", ""]
    text = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert text.splitlines()[0] == "| run | seeds | step | loss | bits/byte | ± std |"
    assert text.endswith("\nFailed:\n\n- c-seed0: step 7: loss inf | not finite\n")


def test_runs_that_were_never_evaluated_have_their_loss(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a-seed0", [])
    (run / "metrics.jsonl").write_text('{"step": 5, "loss": 2.5}\n{"step": 10, "loss": 2.25}\n')
    entry = read_entry(run, "a", 0, {}, True, None)
    assert rows(sweep_table([entry])) == [["a", "1", "10", "2.2500"]]
    assert write_tables(tmp_path, [entry]) == [tmp_path / "table.csv", tmp_path / "table.md"]


def test_a_finished_run_that_is_damaged_is_named(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a-seed0", [1.0])
    (run / "metrics.jsonl").write_text('{"step": "x"}\n')
    with pytest.raises(RunError, match=r"metrics\.jsonl:1 is damaged"):
        read_entry(run, "a", 0, {}, True, None)
    assert read_entry(run, "a", 0, {}, False, "it is damaged").loss is None

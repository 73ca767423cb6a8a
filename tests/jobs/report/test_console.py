"""What users have named is printed as it is: Rich would take brackets for markup and colons for emoji."""

from pathlib import Path

import pytest
from rich.table import Table

from jobs import train
from jobs.report.console import make_console
from trainer.runs.train import RunResult

NAME = "q[bold] [/INST] :cat:"


def test_nothing_is_read_as_markup(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table(NAME, title=NAME)
    table.add_row(NAME)
    console = make_console()
    console.print(NAME)
    console.print(table)
    console.rule(NAME)
    assert capsys.readouterr().out.count(NAME) == 5


def test_a_run_is_named_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / NAME / ("x" * 100)
    monkeypatch.setattr(train, "load_config", lambda *arguments: None)
    monkeypatch.setattr(train, "train", lambda config: RunResult(folder, 3, False, None, 1.0))
    train.run_training(tmp_path / "train.yaml", [])
    assert capsys.readouterr().out.splitlines() == [f"{folder}: 3 steps in 1 s", f"student: {folder / 'model'}"]

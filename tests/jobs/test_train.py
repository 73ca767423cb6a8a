"""What `stillroom train` prints of a run."""

from pathlib import Path

import pytest

from jobs import train
from trainer.runs.train import RunResult


def test_a_run_is_named_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "q[bold] [/INST] :cat:" / ("x" * 100)
    monkeypatch.setattr(train, "load_config", lambda *arguments: None)
    monkeypatch.setattr("trainer.runs.train.train", lambda config: RunResult(folder, 3, False, None, 1.0))
    train.run_training(tmp_path / "train.yaml", [])
    assert capsys.readouterr().out.splitlines() == [f"{folder}: 3 steps in 1 s", f"student: {folder / 'model'}"]

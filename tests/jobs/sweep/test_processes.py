"""Runs in processes of their own, which die alone, and with the sweep."""

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from jobs.sweep import processes
from jobs.sweep.plan import plan_sweep
from jobs.sweep.processes import Worker, train_in_processes
from tests.jobs.sweep.sweeps import base, make_material, write_sweep


def test_a_process_that_is_killed_leaves_its_runs_unfinished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_material(tmp_path)
    config = {"base": base(made), "output": str(tmp_path / "out"), "grid": {"steps": [2, 1_000_000, 3, 4]}}
    short, long, next_one, refused = plan_sweep(write_sweep(tmp_path / "sweep.yaml", config)).runs
    refused.config.output.mkdir(parents=True)
    (refused.config.output / "something").touch()
    started: list[subprocess.Popen[str]] = []

    class Remembered(Worker):
        def __init__(self, *arguments: Any):
            super().__init__(*arguments)
            started.append(self.process)

    monkeypatch.setattr(processes, "Worker", Remembered)
    outcomes = []
    for outcome in train_in_processes([(refused,), (long,), (short,), (next_one,)], 0, 2, tmp_path):
        outcomes += [outcome] if outcome else []
        if len(outcomes) == 3 and started[1].poll() is None:
            assert (long.config.output / "run.json").exists()
            os.kill(started[1].pid, signal.SIGKILL)
    assert len(started) == 2  # the first took the others, too, after it had refused one
    told = {outcome.run.name: outcome.problem and outcome.problem.words for outcome in outcomes}
    assert str(told[refused.name]).startswith(f"output {refused.config.output} is not empty and holds no run")
    assert told[short.name] is None and (short.config.output / "model").is_dir()
    assert told[next_one.name] is None and (next_one.config.output / "model").is_dir()
    assert (tmp_path / f"{next_one.name}.log").is_file()
    died = "its process ended by SIGKILL, most often because memory ran out; "
    assert str(told[long.name]).startswith(f"{died}{tmp_path / long.name}.log tells more, and the same command")
    assert not (short.config.output / ".writer").exists() and (long.config.output / ".writer").exists()

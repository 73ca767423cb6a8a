"""A sweep's folder: its runs keep their folders whatever the file calls them later."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from jobs.sweep.plan import Run, plan_sweep
from jobs.sweep.record import opened
from schemas.errors import RunError
from tests.jobs.sweep.sweeps import base, write_sweep


def planned(folder: Path, **settings: Any) -> tuple[Run, ...]:
    config = {"base": base(folder), "output": str(folder / "out"), **settings}
    return plan_sweep(write_sweep(folder / "sweep.yaml", config)).runs


def test_a_run_keeps_its_folder_under_another_name(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with opened(out, planned(tmp_path, grid={"optimizer.lr": [0.1, 0.2]})) as first:
        assert [run.name for run in first] == ["lr=0.1-seed0", "lr=0.2-seed0"]
        assert (out / ".writer").exists()
    more = planned(tmp_path, grid={"optimizer.lr": [0.1, 0.3], "optimizer.clip": [1.0, 2.0]})
    with opened(out, more) as second:
        assert [run.name for run in second][:2] == ["lr=0.1-seed0", "lr=0.1,clip=2-seed0"]
        assert second[0].config.output == out / "runs" / "lr=0.1-seed0"
    record = json.loads((out / "sweep.json").read_text())
    assert record["format"] == "stillroom-sweep"
    assert set(record["runs"]) == {"lr=0.1-seed0", "lr=0.2-seed0", *(run.name for run in second)}
    assert not (out / ".writer").exists()


def test_other_folders_and_other_sweeps_at_work_are_refused(tmp_path: Path) -> None:
    runs, out = planned(tmp_path, runs=[{"name": "a"}]), tmp_path / "out"
    with opened(out, runs), pytest.raises(RunError, match=rf"another sweep works in {out}: process {os.getpid()} on "):
        opened(out, runs).__enter__()
    swapped = planned(tmp_path, runs=[{"name": "b"}, {"name": "a", "set": {"steps": 9}}])
    with pytest.raises(RunError, match="runs/a-seed0 is of another run of this sweep; name the values or the runs"):
        opened(out, swapped).__enter__()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    with pytest.raises(RunError, match="full is not empty and holds no sweep; give another folder"):
        opened(tmp_path / "full", runs).__enter__()


@pytest.mark.parametrize("name", ["../../elsewhere-seed0", "..", "/tmp/elsewhere", ""])
def test_a_record_whose_runs_lie_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    runs, out = planned(tmp_path, runs=[{"name": "a"}]), tmp_path / "out"
    out.mkdir()
    record = {"format": "stillroom-sweep", "version": 1, "runs": {name: runs[0].key}}
    (out / "sweep.json").write_text(json.dumps(record))
    with pytest.raises(RunError, match=r"sweep\.json is damaged: runs"):
        opened(out, runs).__enter__()
    assert [path.name for path in out.iterdir()] == ["sweep.json"]

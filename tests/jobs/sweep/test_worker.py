"""A process of a sweep: one order after the other, each in its own log, and the end with the sweep."""

import io
import json
import os
from pathlib import Path

import pytest

from jobs.sweep.plan import Run, plan_sweep
from jobs.sweep.work import as_sent
from jobs.sweep.worker import Orders
from tests.commands import start
from tests.jobs.sweep.sweeps import base, make_material, write_sweep
from tests.pipeline.cluster.running import outside_environment, wait_until


def test_orders_end_with_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert list(Orders()) == []


def test_it_trains_what_it_is_sent_and_ends_amid_a_run_when_the_sweep_does(tmp_path: Path) -> None:
    made = make_material(tmp_path)
    grid = {"steps": [1, 2, 1_000_000], "optimizer.lr": [1e-2]}
    config = {"base": base(made), "output": str(tmp_path / "out"), "grid": grid}
    first, second, endless = plan_sweep(write_sweep(tmp_path / "sweep.yaml", config)).runs
    broken = as_sent(first) | {"cache": str(tmp_path / "no cache"), "output": str(tmp_path / "out" / "broken")}

    def order(run: Run, config: object = None) -> bytes:
        files = {"log": str(tmp_path / f"{run.name}.log"), "answer": str(tmp_path / f"{run.name}.json")}
        return json.dumps({"configs": [config or as_sent(run)], "logit_bytes": 0} | files).encode() + b"\n"

    ours, theirs = os.pipe()[::-1]
    said = os.open(tmp_path / "said", os.O_WRONLY | os.O_CREAT)
    worker = start(["-m", "jobs.sweep.worker"], str(tmp_path), outside_environment(), {0: theirs, 1: said, 2: said})
    os.close(theirs)
    os.write(ours, order(first) + order(second, broken) + order(endless))
    assert wait_until(lambda: (endless.config.output / "run.json").exists())
    os.close(ours)
    worker.join(20)
    assert worker.exitcode == 1
    assert json.loads((tmp_path / f"{first.name}.json").read_text()) == [None]
    refused = f"{tmp_path / 'no cache'} is not a stillroom cache: there is no cache.json"
    assert json.loads((tmp_path / f"{second.name}.json").read_text()) == [{"words": refused, "harmless": True}]
    assert (first.config.output / "model").is_dir() and not (endless.config.output / "model").exists()
    assert not (tmp_path / f"{endless.name}.json").exists()
    logs = [tmp_path / f"{run.name}.log" for run in (first, second, endless)]
    assert all(log.is_file() for log in logs) and not (tmp_path / "said").read_text()

"""Runs as tasks of a real Ray: trained, failed, or dead with their worker."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.sweep.on_ray import train_on_ray
from jobs.sweep.plan import plan_sweep
from jobs.sweep.work import Outcome, Problem
from pipeline.cluster.connection import Connection, joined
from pipeline.cluster.placement import require_room
from pipeline.cluster.tasks import Ended, run_tasks
from schemas.configs.sweep import SweepWorkersConfig
from schemas.errors import ResourceError
from tests.jobs.sweep.sweeps import base, make_material, write_sweep
from tests.rays import OneRay

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def connection(one_ray: OneRay) -> Iterator[Connection]:
    with joined(one_ray.address(), lambda nodes: None) as connection:
        yield connection


def test_a_task_that_dies_is_told_and_the_others_go_on(connection: Connection) -> None:
    def halve(number: int) -> float:  # sent whole: a worker would take seconds to import what this module does
        if number == 3:
            os._exit(1)
        if number == 5:
            raise ZeroDivisionError("by 0")
        return number / 2

    found = [ended for ended in run_tasks(connection, halve, [(2,), (3,), (5,), (8,)], 2, 0.5, 0) if ended]
    by_number = {ended.number: ended for ended in found}
    assert by_number[0] == Ended(0, 1.0) and by_number[3] == Ended(3, 4.0)
    assert str(by_number[1].problem).startswith("its worker died (WorkerCrashedError): ")
    assert by_number[2].problem == "an error of the program, by 0"


def test_runs_are_trained_from_the_working_directory(
    connection: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_material(tmp_path)
    monkeypatch.chdir(tmp_path)
    config = {"base": base(Path()), "output": "out", "grid": {"steps": [1, 2]}, "seeds": [0]}
    good, other = plan_sweep(write_sweep(tmp_path / "sweep.yaml", config)).runs
    other.config.output.mkdir(parents=True)
    (other.config.output / "something").touch()
    outcomes = [
        outcome
        for outcome in train_on_ray([(good,), (other,)], 0, SweepWorkersConfig(kind="ray", count=1), tmp_path)
        if outcome
    ]
    assert sorted(outcomes, key=lambda outcome: outcome.run.name) == [
        Outcome(good, None),
        Outcome(
            other, Problem("output out/runs/steps=2-seed0 is not empty and holds no run; give another folder", True)
        ),
    ]
    assert (tmp_path / "out" / "runs" / good.name / "model").is_dir()
    assert (tmp_path / f"{good.name}.log").exists()


def test_a_run_that_no_machine_can_hold_is_refused() -> None:
    said = "no machine of this Ray has 8 CPUs and 1 GPU for one run; lower workers.cpus or workers.gpus"
    with pytest.raises(ResourceError, match=said):
        require_room(8, 1, [{"CPU": 16}, {"CPU": 4, "GPU": 2}])
    require_room(8, 1, [{"CPU": 16}, {"CPU": 8, "GPU": 2}])

"""A sweep killed at any time ends in one table, with the students that separate runs would be."""

import csv
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from jobs.sweep.plan import Run, plan_sweep
from jobs.sweep.sweep import run_sweep
from schemas.errors import ConfigError, RunError
from tests.commands import CLI, Program
from tests.jobs.sweep.sweeps import base, make_material, write_sweep
from trainer.optimisation.loop import Loop, StepReport
from trainer.runs.train import train


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_material(tmp_path_factory.mktemp("sweep"))


def lines(out: Path) -> dict[str, dict[str, str]]:
    with (out / "table.csv").open(encoding="utf-8") as file:
        return {line["run"]: line for line in csv.DictReader(file)}


def crash_at(monkeypatch: pytest.MonkeyPatch, ends: Callable[[Loop, int], BaseException | None]) -> None:
    original = Loop.step

    def step(self: Loop, number: int) -> StepReport:
        if (error := ends(self, number)) is not None:
            raise error
        return original(self, number)

    monkeypatch.setattr(Loop, "step", step)


def test_one_run_that_fails_does_not_stop_the_others_and_is_tried_again(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    grid: dict[str, Any] = {"optimizer.lr": [1e-2, 1e-3], "objective.sra.weight": [1]}
    config = {"base": base(made, steps=2), "output": str(tmp_path / "out"), "grid": grid}
    path = write_sweep(tmp_path / "sweep.yaml", config)
    with monkeypatch.context() as patch:
        crash_at(patch, lambda loop, step: RunError("loss inf") if loop.config.optimizer.lr == 1e-2 else None)
        with pytest.raises(RunError, match=r"^1 run failed: lr=0\.01,sra\.weight=1-seed0\. The table has their"):
            run_sweep(path, [])
        shown = capsys.readouterr().out
        assert "lr=0.01,sra.weight=1 (1 failed)" in shown.replace("\n", "") and "loss inf" in shown
        with pytest.raises(RunError, match="1 run failed"):
            run_sweep(path, ["stop_at_failure=true"])
    assert lines(tmp_path / "out")["lr=0.001,sra.weight=1-seed0"]["finished"] == "true"
    run_sweep(path, [])
    assert capsys.readouterr().out.splitlines()[-1].startswith("2 of 2 runs are finished; ")
    # Finished runs are left alone, more runs are taken up, and a finished run that would be another one is refused.
    crash_at(monkeypatch, lambda loop, step: AssertionError("it trains again") if step == 0 else None)
    run_sweep(path, [])
    config["base"] = base(made, steps=3)
    with pytest.raises(RunError, match=r"run lr=0\.01,sra\.weight=1-seed0: .*holds another run(.|\n)*steps"):
        run_sweep(write_sweep(path, config), [])
    config["grid"] = grid | {"optimizer.lrr": [1]}
    with pytest.raises(ConfigError, match="did you mean `lr`"):
        run_sweep(write_sweep(path, config), [])


def test_a_sweep_killed_twice_ends_in_one_table(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of four runs; first two at a time in processes, which end with it, then in sequence."""
    out = tmp_path / "out"
    config = {
        "base": base(made, steps=24, evaluation={"texts": str(made / "held_out.jsonl"), "every": 12}),
        "output": str(out),
        "grid": {"optimizer.lr": [1e-2, 1e-3]},
        "seeds": [0, 1],
    }
    path = write_sweep(tmp_path / "sweep.yaml", config)
    runs = plan_sweep(path).runs
    kill_at_checkpoint(runs[0], path, "workers={kind: processes, count: 2}")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        seen = (2, runs[2].config.optimizer.lr)
        crash_at(patch, lambda loop, step: KeyboardInterrupt() if (step, loop.config.optimizer.lr) == seen else None)
        run_sweep(path, [])
    assert not (out / "table.csv").exists()
    run_sweep(path, [])
    assert {name: line["finished"] for name, line in lines(out).items()} == {run.name: "true" for run in runs}
    assert len((out / "table.md").read_text().splitlines()) == 2 + 2
    alone = runs[2].config.model_copy(update={"output": tmp_path / "alone"})
    train(alone)
    for name, tensor in weights(alone.output).items():
        assert torch.equal(tensor, weights(runs[2].config.output)[name])


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "model.safetensors")


def kill_at_checkpoint(run: Run, path: Path, override: str) -> None:
    """Start the sweep, and kill it as soon as `run` has a checkpoint."""
    sweep = Program([*CLI, "sweep", path, "--set", override])
    while sweep.poll() is None and not any(run.config.output.glob("checkpoints/step-*")):
        time.sleep(0.01)
    assert sweep.poll() is None
    sweep.kill()
    sweep.communicate()

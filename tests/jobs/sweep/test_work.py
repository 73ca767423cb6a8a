"""Groups of runs in one process: what ends one of them does not end the others."""

from pathlib import Path
from typing import Any

import pytest

from jobs.sweep import work
from jobs.sweep.plan import Run, plan_sweep
from jobs.sweep.work import (
    Outcome,
    Problem,
    make_groups,
    require_trainable,
    train_group,
    train_in_sequence,
    train_logged,
)
from schemas.configs.training import TrainingConfig
from schemas.errors import RunError
from tests.jobs.sweep.sweeps import base, make_material, write_sweep


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_material(tmp_path_factory.mktemp("work"))


def planned(made: Path, output: Path, **settings: Any) -> tuple[Run, ...]:
    config = {"base": base(made), "output": str(output), **settings}
    return plan_sweep(write_sweep(output.parent / "sweep.yaml", config)).runs


def test_a_run_that_fails_is_told_and_the_next_one_trains(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = planned(made, tmp_path / "out", grid={"optimizer.lr": [1, 2, 3, 4]})
    errors = [RunError("step 3: loss inf"), OSError(28, "No space left", "/disk"), ZeroDivisionError("by 0"), None]

    def fail(config: TrainingConfig, cache: object) -> None:
        if (error := errors[int(config.optimizer.lr) - 1]) is not None:
            raise error

    monkeypatch.setattr(work, "train", fail)
    assert list(train_in_sequence([(run,) for run in runs], 0)) == [
        Outcome(runs[0], Problem("step 3: loss inf")),
        Outcome(
            runs[1],
            Problem("no space left to write /disk (No space left); make room and run the same command again"),
        ),
        Outcome(runs[2], Problem("an error of the program, ZeroDivisionError: by 0")),
        Outcome(runs[3], None),
    ]
    assert "ZeroDivisionError: by 0" in capsys.readouterr().err


def test_a_run_that_is_refused_before_its_first_step_leaves_its_process_as_it_was(made: Path, tmp_path: Path) -> None:
    (run,) = planned(made, tmp_path / "out", seeds=[0])
    taken = run.config.model_copy(update={"output": made})
    shallow = TrainingConfig.model_validate(run.config.model_dump() | {"objective": [{"loss": "mta"}]})
    hot = run.config.optimizer.model_copy(update={"lr": 1e30, "clip": None})  # no config can ask for it
    assert train_group([taken], 0) == [
        Problem(f"output {made} is not empty and holds no run; give another folder", True)
    ]
    assert train_group([shallow], 0) == [Problem("mta.student_layers: top 3 of a model with only 2 layers", True)]
    (diverged,) = train_group([run.config.model_copy(update={"optimizer": hot, "steps": 20})], 0)
    assert diverged is not None and "not a finite number" in diverged.words and not diverged.harmless


def test_a_finished_run_is_known_and_a_changed_one_refused(made: Path, tmp_path: Path) -> None:
    runs = planned(made, tmp_path / "out", grid={"objective": {"ce": [{"loss": "ce"}]}, "steps": [1, 2]})
    assert train_logged([work.as_sent(runs[0])], 0, tmp_path / "log") == [None]
    assert (runs[0].config.output / "model").is_dir()
    assert require_trainable(runs) == {"ce,steps=1-seed0"}
    changed = planned(made, tmp_path / "out", grid={"objective": {"ce": [{"loss": "ce", "weight": 2}]}, "steps": [1]})
    with pytest.raises(RunError, match=r"^run ce,steps=1-seed0: .*holds another run; give this one another `output`"):
        require_trainable(changed)


def test_what_a_run_leaves_out_is_left_out_where_it_is_sent(made: Path, tmp_path: Path) -> None:
    run = planned(made, tmp_path / "out", runs=[{"name": "a"}])[0]
    assert "order" not in work.as_sent(run)
    assert TrainingConfig.model_validate(work.as_sent(run)) == run.config


def test_runs_of_equal_batches_share_a_read(made: Path, tmp_path: Path) -> None:
    runs = planned(made, tmp_path / "out", grid={"optimizer.lr": [1, 2, 3]}, seeds=[0, 1], share=2)
    names = [[run.name for run in group] for group in make_groups(runs, 2)]
    assert names == [
        ["lr=1-seed0", "lr=2-seed0"],
        ["lr=1-seed1", "lr=2-seed1"],
        ["lr=3-seed0"],
        ["lr=3-seed1"],
    ]
    assert make_groups(runs, 1) == [(run,) for run in runs]
    group = make_groups(planned(made, tmp_path / "out", grid={"optimizer.lr": [1e-3, 2e-3], "steps": [1]}), 2)
    assert list(train_in_sequence(group, 10**6)) == [Outcome(run, None) for run in group[0]]
    assert require_trainable(group[0]) == {"lr=0.001,steps=1-seed0", "lr=0.002,steps=1-seed0"}

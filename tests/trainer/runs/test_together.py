"""Runs that share a read become the students that they would be alone, bit for bit, killed in between or not."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from schemas.cache.reader import Cache
from schemas.cache.samples import CachedSample
from schemas.configs.training import TrainingConfig
from schemas.errors import RunError
from schemas.models.teacher_head import TeacherHead
from tests.caches import encoded_cache
from tests.trainings import small_training, write_held_out
from trainer.optimisation.loop import Loop, StepReport
from trainer.runs.metrics import read_metrics
from trainer.runs.together import reads_as, train_together
from trainer.runs.train import RunResult, train

OBJECTIVES: dict[str, list[dict[str, Any]]] = {
    "ce": [{"loss": "ce"}],
    "sra": [{"loss": "ce"}, {"loss": "sra"}],
    "kd": [{"loss": "kd"}, {"loss": "mta", "student_layers": [1, 2], "teacher_layers": [1, 3]}],
    "half": [{"loss": "ce"}, {"loss": "kd", "weight": 0.5}],
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of encoded states, and held-out texts."""
    folder = tmp_path_factory.mktemp("together")
    encoded_cache(folder)
    write_held_out(folder)
    return folder


def config(made: Path, output: Path, objective: str, **changes: Any) -> TrainingConfig:
    said = small_training(
        made,
        output=output / objective,
        objective=OBJECTIVES[objective],
        steps=6,
        accumulation=2,
        evaluation={"texts": made / "held_out.jsonl", "every": 3},
    )
    return TrainingConfig.model_validate(said | changes)


@pytest.fixture(scope="module")
def alone(made: Path) -> Path:
    """The students of separate runs."""
    for objective in OBJECTIVES:
        train(config(made, made / "alone", objective))
    return made / "alone"


def require_same(output: Path, alone: Path) -> None:
    for objective in OBJECTIVES:
        ours, theirs = (load_file(run / objective / "model" / "model.safetensors") for run in (output, alone))
        assert ours.keys() == theirs.keys()
        assert [name for name in theirs if not torch.equal(ours[name], theirs[name])] == []
        assert read_metrics(output / objective) == read_metrics(alone / objective)


def test_students_are_those_of_separate_runs_and_what_they_have_in_common_is_made_once(
    made: Path, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    products: list[int] = []
    sample, forward = Cache.sample, TeacherHead.forward

    def count(self: Cache, position: int) -> CachedSample:
        read.append(position)
        return sample(self, position)

    def multiply(self: TeacherHead, hidden: Tensor, ids: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        products.append(len(hidden))
        return forward(self, hidden, ids, temperature)

    configs = [config(made, tmp_path, objective, loader_workers=0) for objective in OBJECTIVES]
    monkeypatch.setattr(Cache, "sample", count)
    monkeypatch.setattr(TeacherHead, "forward", multiply)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    results = train_together(configs[:1])
    of_one, read[:] = len(read), []
    results += train_together(configs[1:])
    assert [type(result) for result in results] == [RunResult] * 4
    batches = 2 * 6 * 4  # two of four samples in each of six steps; each run also measures its alignment on others
    assert len(read) == batches + 3 * (of_one - batches)
    # Two batches in each of six steps: SRA's centres, and the predictions of two students.
    assert len(products) == 2 * 2 * 6
    assert torch.equal(torch.get_rng_state(), before) and torch.get_num_threads() == threads
    require_same(tmp_path, alone)


def stop_at(monkeypatch: pytest.MonkeyPatch, objective: str, step: int, error: BaseException) -> None:
    original = Loop.step

    def step_or_stop(self: Loop, number: int) -> StepReport:
        if self.config.output.name == objective and number == step:
            raise error
        return original(self, number)

    monkeypatch.setattr(Loop, "step", step_or_stop)


def test_killed_between_two_checkpoints_the_laggard_comes_up_first(
    made: Path, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs = [config(made, tmp_path, objective) for objective in OBJECTIVES]
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_at(patch, "sra", 3, KeyboardInterrupt())
        train_together(configs)
    steps = [sorted(path.name for path in (tmp_path / name / "checkpoints").iterdir()) for name in OBJECTIVES]
    assert steps == [["step-00000002", "step-00000004"], *[["step-00000002"]] * 3]
    assert not any((tmp_path / name / ".writer").exists() for name in OBJECTIVES)
    order: list[tuple[str, int]] = []
    original = Loop.step

    def note(self: Loop, number: int) -> StepReport:
        order.append((self.config.output.name, number))
        return original(self, number)

    monkeypatch.setattr(Loop, "step", note)
    train_together(configs)
    assert order[:8] == [("sra", 2), ("kd", 2), ("half", 2), ("sra", 3), ("kd", 3), ("half", 3), ("ce", 4), ("sra", 4)]
    require_same(tmp_path, alone)


def test_one_that_fails_leaves_the_others_as_they_are(
    made: Path, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs = [config(made, tmp_path, objective) for objective in OBJECTIVES]
    with monkeypatch.context() as patch:
        stop_at(patch, "ce", 2, RunError("loss inf"))
        results = train_together(configs)
    assert str(results[0]) == "loss inf" and all(isinstance(result, RunResult) for result in results[1:])
    assert [type(result) for result in train_together(configs)] == [RunResult] * 4  # three of them were finished
    require_same(tmp_path, alone)


@pytest.mark.parametrize("changes", [{"seed": 1}, {"batch_size": 2}, {"order": "random"}, {"threads": 2}])
def test_runs_of_other_batches_are_refused(made: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    runs: Sequence[TrainingConfig] = [config(made, tmp_path, "ce"), config(made, tmp_path, "sra", **changes)]
    with pytest.raises(RunError, match="these runs do not read the same batches: order, seed, batch size"):
        train_together(runs)
    like = config(made, tmp_path, "kd", steps=9, optimizer={"lr": 1.0})
    assert reads_as(like) == reads_as(runs[0])

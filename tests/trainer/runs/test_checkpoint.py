"""Checkpoints under bad luck: a flipped bit, a truncated file, one of the version before, none that is whole."""

import json
import logging
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from schemas.configs.training import TrainingConfig
from schemas.errors import RunError
from tests.caches import small_cache
from tests.crash import interrupt
from trainer.optimisation.moments import moments
from trainer.optimisation.random_state import generator_states
from trainer.runs.checkpoint import CheckpointRecord, complete_checkpoints, find_start, save_checkpoint
from trainer.runs.folder import RunFolder
from trainer.runs.train import train

FINGERPRINT, RUN = "f" * 64, "a" * 64


class Student(torch.nn.Module):
    """The least that a checkpoint wants of a model."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.arange(6.0).reshape(2, 3))

    def save_pretrained(self, folder: Path) -> None:
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_bytes(self.weight.detach().numpy().tobytes())


def save(folder: Path, step: int, keep: int = 3) -> Path:
    student, losses = Student(), torch.nn.ModuleDict()
    optimizer = torch.optim.AdamW(student.parameters())
    student.weight.sum().backward()
    optimizer.step()
    record = CheckpointRecord(step=step, fingerprint=FINGERPRINT, run=RUN, skipped=1, empty=2)
    save_checkpoint(folder, record, student, losses, moments(optimizer), generator_states(), keep)
    return folder / f"step-{step:08d}"


def test_a_checkpoint_says_all_that_the_loop_needs(tmp_path: Path) -> None:
    path = save(tmp_path, 20)
    start = find_start(tmp_path, FINGERPRINT, RUN)
    assert start.checkpoint == path
    assert (start.record.step, start.record.skipped, start.record.empty) == (20, 1, 2)
    written = {p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file()} - {"checkpoint.json"}
    assert start.record.files is not None and start.record.files.keys() == written
    moments = load_file(path / "optimizer.safetensors")
    assert moments.keys() == {"0.step", "0.exp_avg", "0.exp_avg_sq"} and moments["0.step"] == 1


def test_without_a_checkpoint_a_run_begins(tmp_path: Path) -> None:
    start = find_start(tmp_path / "nothing", FINGERPRINT, RUN)
    assert start.checkpoint is None
    assert start.record == CheckpointRecord(step=0, fingerprint=FINGERPRINT, run=RUN)


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    for step in (10, 20, 30, 40):
        save(tmp_path, step, keep=2)
    assert [path.name for path in complete_checkpoints(tmp_path)] == ["step-00000030", "step-00000040"]


def damages(path: Path) -> Iterator[tuple[Path, bytes]]:
    """200 single damages, spread over all files: flipped bits, cut ends, a byte more."""
    rng = random.Random(0)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    for number in range(200):
        file = files[number % len(files)]
        content = bytearray(file.read_bytes())
        kind = rng.choice(["flip", "flip", "flip", "cut", "more"])
        place = rng.randrange(len(content))
        if kind == "flip":
            content[place] ^= 1 << rng.randrange(8)
        elif kind == "cut":
            del content[place:]
        else:
            content.append(0)
        yield file, bytes(content)


def test_no_damage_is_resumed_from(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Each damage of the newest is found, and the one before is taken; or the newest still says the very same."""
    save(tmp_path, 10)
    newest = save(tmp_path, 20)
    truth = find_start(tmp_path, FINGERPRINT, RUN).record
    silent, fallen_back = 0, 0
    for file, content in damages(newest):
        intact = file.read_bytes()
        file.write_bytes(content)
        caplog.clear()
        try:
            start = find_start(tmp_path, FINGERPRINT, RUN)
        except RunError as error:  # the flip is in the fingerprint that the record names
            assert "another cache" in str(error)
        else:
            if start.record.step == 10:
                fallen_back += 1
                assert "step-00000020" in caplog.text and "going on from step-00000010 instead" in caplog.text
            elif start.record != truth:
                silent += 1
        file.write_bytes(intact)
    assert silent == 0 and fallen_back > 150
    assert find_start(tmp_path, FINGERPRINT, RUN).record == truth


@pytest.mark.parametrize("change", ["missing", "added"])
def test_a_file_too_few_or_too_many_is_damage(tmp_path: Path, change: str) -> None:
    path = save(tmp_path, 10)
    if change == "missing":
        (path / "model" / "config.json").unlink()
    else:
        (path / "model" / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(RunError, match=r"no checkpoint of this run is whole: .*(is missing|is not named)"):
        find_start(tmp_path, FINGERPRINT, RUN)


def test_of_another_cache_it_is_refused(tmp_path: Path) -> None:
    save(tmp_path, 10)
    with pytest.raises(RunError, match="made from another cache"):
        find_start(tmp_path, "0" * 64, RUN)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    return small_cache(folder)


def config(cache: Path, output: Path) -> TrainingConfig:
    size = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    architecture = {"model_type": "llama", "attention_dropout": 0.1, **size}
    return TrainingConfig.model_validate(
        {
            "cache": cache,
            "output": output,
            "student": {"architecture": architecture, "tokenizer": "teacher", "max_tokens": 64},
            "objective": [{"loss": "ce"}, {"loss": "mta", "student_layers": [1, 2]}],
            "steps": 6,
            "batch_size": 2,
            "threads": 1,
            "checkpoint_every": 1,
            "log_every": 1,
        }
    )


@pytest.fixture(scope="module")
def finished(cache: Path) -> Path:
    """A run, to be copied by those that alter it."""
    train(config(cache, cache.parent / "finished"))
    return cache.parent / "finished"


@pytest.fixture(scope="module")
def begun(cache: Path) -> Path:
    """The same, interrupted before its fifth step."""
    interrupt(config(cache, cache.parent / "begun"), 4)
    return cache.parent / "begun"


def same_student(first: Path, second: Path) -> bool:
    a, b = (path / "model" / "model.safetensors" for path in (first, second))
    return a.read_bytes() == b.read_bytes()


def test_a_run_whose_newest_checkpoint_is_damaged_ends_in_the_same_student(
    cache: Path, finished: Path, begun: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(begun, tmp_path / "run")
    checkpoints = complete_checkpoints(tmp_path / "run" / "checkpoints")
    assert [path.name for path in checkpoints] == ["step-00000003", "step-00000004"]
    moments = checkpoints[-1] / "optimizer.safetensors"
    content = bytearray(moments.read_bytes())
    content[-5] ^= 4
    moments.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        train(config(cache, tmp_path / "run"))
    assert "optimizer.safetensors does not have its checksum; going on from step-00000003 instead" in caplog.text
    assert same_student(finished, tmp_path / "run")
    metrics = [(run / "metrics.jsonl").read_bytes() for run in (finished, tmp_path / "run")]
    assert metrics[0] == metrics[1]


def test_a_checkpoint_of_version_1_is_resumed(cache: Path, finished: Path, begun: Path, tmp_path: Path) -> None:
    """It had no checksums, and did not know of settings that came later."""
    shutil.copytree(begun, tmp_path / "run")
    as_version_1(tmp_path / "run")
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    del run["model"], run["identity"]["optimizer"]["sharpness"]
    (tmp_path / "run" / "run.json").write_text(json.dumps(run | {"version": 1}))
    train(config(cache, tmp_path / "run"))
    assert same_student(finished, tmp_path / "run")


@pytest.mark.parametrize("change", [{"step": 9}, {"step": 0}, {"skipped": 0}, {"empty": 0}, {"files": None}])
def test_a_record_that_was_altered_is_damage(tmp_path: Path, change: dict[str, int | None]) -> None:
    path = save(tmp_path, 10) / "checkpoint.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(RunError, match=r"checkpoint\.json is damaged: it was altered"):
        find_start(tmp_path, FINGERPRINT, RUN)


def test_a_checkpoint_under_another_steps_name_is_damage(tmp_path: Path) -> None:
    save(tmp_path, 10).rename(tmp_path / "step-00000020")
    with pytest.raises(RunError, match="was altered"):
        find_start(tmp_path, FINGERPRINT, RUN)


def test_of_another_run_it_is_refused(cache: Path, begun: Path, tmp_path: Path) -> None:
    other = config(cache, tmp_path / "other").model_copy(update={"seed": 1})
    interrupt(other, 2)
    shutil.rmtree(tmp_path / "other" / "checkpoints")
    shutil.copytree(begun / "checkpoints", tmp_path / "other" / "checkpoints")
    with pytest.raises(RunError, match="made from another run"):
        train(other)


def as_version_1(run: Path) -> None:
    """The run as the version before would have left it: without checksums, and without settings that came later."""
    for path in complete_checkpoints(run / "checkpoints"):
        record = json.loads((path / "checkpoint.json").read_text())
        old = {key: record[key] for key in ("format", "step", "fingerprint", "skipped")}
        (path / "checkpoint.json").write_text(json.dumps(old | {"version": 1}))


def test_a_run_of_version_1_whose_losses_mean_something_else_now_is_refused(cache: Path, tmp_path: Path) -> None:
    run = config(cache, tmp_path / "run")
    batch = {"loss": "mta", "student_layers": [1, 2], "normalise": "batch"}
    run = TrainingConfig.model_validate(run.model_dump() | {"objective": [{"loss": "ce"}, batch]})
    interrupt(run, 4)
    as_version_1(tmp_path / "run")
    with pytest.raises(RunError, match="averages L_DSA alone now: finish it with the version that began it"):
        train(run)


@pytest.mark.parametrize("key", ["x", "99999.exp_avg", "0.exp_avg", "0.step.x"])
def test_moments_of_version_1_that_cannot_be_are_said(cache: Path, begun: Path, tmp_path: Path, key: str) -> None:
    shutil.copytree(begun, tmp_path / "run")
    as_version_1(tmp_path / "run")
    for path in complete_checkpoints(tmp_path / "run" / "checkpoints"):
        save_file({key: torch.zeros(3)}, path / "optimizer.safetensors")
    with pytest.raises(RunError, match="cannot resume from"):
        train(config(cache, tmp_path / "run"))


@pytest.mark.parametrize("states", [{}, {"cpu": torch.zeros(4)}, {"cpu": torch.zeros(4, dtype=torch.uint8)}])
def test_generators_of_version_1_that_cannot_be_are_said(
    cache: Path, begun: Path, tmp_path: Path, states: dict[str, torch.Tensor]
) -> None:
    shutil.copytree(begun, tmp_path / "run")
    as_version_1(tmp_path / "run")
    for path in complete_checkpoints(tmp_path / "run" / "checkpoints"):
        save_file(states, path / "rng.safetensors")
    with pytest.raises(RunError, match="cannot resume from"):
        train(config(cache, tmp_path / "run"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": None}, "a finished run names the files of its model"),
        ({"model": {}}, "a finished run names the files of its model"),
        ({"evaluation": {"x": 1.0}}, "an evaluation by none of the known metrics"),
    ],
)
def test_a_finished_record_that_says_too_little_is_refused(
    cache: Path, finished: Path, tmp_path: Path, change: dict[str, object], said: str
) -> None:
    shutil.copytree(finished, tmp_path / "run")
    path = tmp_path / "run" / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(RunError, match=said):
        train(config(cache, tmp_path / "run"))


def test_a_run_that_lost_its_lock_publishes_nothing(cache: Path, tmp_path: Path) -> None:
    folder = RunFolder(config(cache, tmp_path / "run"), FINGERPRINT, 6)
    with folder.locked():
        folder.begin()
        lock = next((tmp_path / "run").glob(".writer"))
        lock.write_text(lock.read_text().replace('"token":"', '"token":"x'))
        with pytest.raises(RunError, match=r"has taken .*run over"):
            folder.finish(Student(), None, None)
    assert not (tmp_path / "run" / "model").exists()


@pytest.mark.parametrize("name", ["model", "checkpoints", "tensorboard"])
def test_a_file_where_a_folder_will_be_wanted_is_said_before_the_work(
    cache: Path, begun: Path, tmp_path: Path, name: str
) -> None:
    shutil.copytree(begun, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / name, ignore_errors=True)
    (tmp_path / "run" / name).write_text("x")
    with pytest.raises(RunError, match=f"run/{name} is not a folder of this run"):
        train(config(cache, tmp_path / "run"))


@pytest.mark.parametrize("damage", ["removed", "altered"])
def test_a_run_is_finished_only_with_its_model(cache: Path, finished: Path, tmp_path: Path, damage: str) -> None:
    shutil.copytree(finished, tmp_path / "run")
    weights = tmp_path / "run" / "model" / "model.safetensors"
    if damage == "removed":
        shutil.rmtree(weights.parent)
    else:
        content = bytearray(weights.read_bytes())
        content[len(content) // 2] ^= 1
        weights.write_bytes(content)
    with pytest.raises(RunError, match=r"was finished, but .*model/.* (is missing|does not have its checksum); remove"):
        train(config(cache, tmp_path / "run"))

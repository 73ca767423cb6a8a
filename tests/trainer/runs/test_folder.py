"""A run's folder under bad luck: a full disk at every kind of write, and a second training in the same place."""

import json
import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest

from schemas.configs.training import TrainingConfig
from schemas.configs.yaml import dump_config
from schemas.errors import RunError
from schemas.models.tokenizer import load_tokenizer
from tests.caches import small_cache
from tests.commands import run as run_program
from tests.tiny import TEXTS
from trainer.runs.checkpoint import complete_checkpoints, read_checkpoint
from trainer.runs.folder import RunFolder
from trainer.runs.metrics import read_metrics
from trainer.runs.train import train


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    return small_cache(folder)


def config(cache: Path, output: Path, **changes: Any) -> TrainingConfig:
    size = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    student = {"architecture": {"model_type": "llama", **size}, "tokenizer": "teacher", "max_tokens": 64}
    base = {"cache": cache, "output": output, "student": student, "objective": [{"loss": "ce"}], "steps": 4}
    base |= {"batch_size": 2, "threads": 1, "checkpoint_every": 2, "log_every": 1, "device": "cpu"}
    return TrainingConfig.model_validate(base | changes)


# One process for all cases, because to import torch takes longer than they do. A line of dashes parts what they say.
FULL = """
import resource, sys
from trainer.optimisation.loop import Loop
from jobs.cli import main
original, moment = Loop.step, {}
def full(self, number):
    if number == moment["step"]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (moment["limit"], resource.RLIM_INFINITY))
    return original(self, number)
Loop.step = full
for config, step, limit in zip(sys.argv[1::3], sys.argv[2::3], sys.argv[3::3]):
    moment.update(step=int(step), limit=int(limit))
    sys.argv = ["stillroom", "train", config]
    try:
        main()
    except SystemExit as end:
        print(end.code)
    sys.stderr.write(chr(10) + "-" * 9 + chr(10))
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
"""
# The step from which on the disk is full, bytes that a file may have, checkpoint_every; what cannot be written, and the
# checkpoint that stays.
FULL_DISKS = [
    (3, 60_000, 2, "checkpoint step-00000004", "step-00000002"),  # in the optimiser's file
    (3, 10_000, 2, "checkpoint step-00000004", "step-00000002"),  # in the model's
    (5, 10_000, 4, "the model", "step-00000004"),
    (3, 50, 2, "the metrics", "step-00000002"),
]


def test_a_full_disk_is_said_and_costs_no_checkpoint(cache: Path, tmp_path: Path) -> None:
    """The limit on file size stands for a full disk: the same write calls fail, with another errno."""
    runs = [
        config(cache, tmp_path / f"run{number}", checkpoint_every=every, steps=6)
        for number, (_, _, every, _, _) in enumerate(FULL_DISKS)
    ]
    command: list[object] = ["-c", FULL]
    for run, (step, limit, *_) in zip(runs, FULL_DISKS, strict=True):
        file = run.output.with_suffix(".yaml")
        file.write_text(dump_config(run))
        command += [file, step, limit]
    done = run_program(command)
    assert done.stdout.split() == ["2"] * len(runs), done.stderr
    parts = done.stderr.split("-" * 9)[:-1]
    for run, said, (_, _, _, what, intact) in zip(runs, parts, FULL_DISKS, strict=True):
        require_that_it_goes_on(run, said, what, intact)


def require_that_it_goes_on(run: TrainingConfig, stderr: str, what: str, intact: str) -> None:
    folder = run.output
    assert f"no space left to write {what} of {folder}" in " ".join(stderr.split()), stderr
    # Of a full disk, TensorBoard's own thread prints a traceback before it is asked what went wrong.
    assert "Traceback" not in stderr or what == "the metrics"
    assert list(folder.glob("**/.*")) == [] and not (folder / "model").exists()
    assert os.listdir(folder / "checkpoints") == [intact]
    assert not train(run).already_done
    other = run.model_copy(update={"output": folder.with_name(f"{folder.name}-other")})
    train(other)
    first, second = (each.output / "model" / "model.safetensors" for each in (run, other))
    assert first.read_bytes() == second.read_bytes()
    assert [line["step"] for line in read_metrics(folder)] == [0, 1, 2, 3, 4, 5, 6]


def test_what_a_run_leaves_can_be_read_by_others(cache: Path, tmp_path: Path) -> None:
    umask = os.umask(0o022)
    try:
        train(config(cache, tmp_path / "run"))
    finally:
        os.umask(umask)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert modes["model.safetensors"] == 0o644 and set(modes.values()) == {0o644}


def hold(run: TrainingConfig, fingerprint: str, ready: Any, done: Any) -> None:
    folder = RunFolder(run, fingerprint, 4)
    with folder.locked():
        folder.begin()
        ready.set()
        done.wait(60)


def test_a_second_training_in_the_same_output_is_refused(cache: Path, tmp_path: Path) -> None:
    run = config(cache, tmp_path / "run")
    fingerprint = json.loads((cache / "cache.json").read_text())["fingerprint"]
    late = RunFolder(run, fingerprint, 4)  # has looked before the other began
    processes = multiprocessing.get_context("forkserver")
    ready, done = processes.Event(), processes.Event()
    other = processes.Process(target=hold, args=(run, fingerprint, ready, done))
    other.start()
    try:
        assert ready.wait(60)
        for refused in (RunFolder(run, fingerprint, 4).locked(), late.locked()):
            with pytest.raises(RunError, match=f"another training is writing to {tmp_path / 'run'}"), refused:
                late.begin()
    finally:
        done.set()
        other.join()
    with pytest.raises(RunError, match=r"wrote to .* in the meantime"), late.locked():
        late.begin()
    assert not train(run).already_done


def test_a_lock_is_given_back_and_a_valid_start_alone_makes_it(cache: Path, tmp_path: Path) -> None:
    run = config(cache, tmp_path / "run")
    folder = RunFolder(run, "f", 4)
    with folder.locked():
        assert not (tmp_path / "run").exists()
        folder.begin()
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), RunFolder(run, "f", 4).locked():
            raise KeyboardInterrupt


def test_a_start_killed_before_its_record_is_no_obstacle(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "run" / ".run.json-0123abcd.tmp").mkdir(parents=True)
    (tmp_path / "run" / ".lock").touch()
    train(config(cache, tmp_path / "run", steps=1))
    assert sorted(os.listdir(tmp_path / "run")) == [
        ".lock", "config.yaml", "metrics.jsonl", "model", "run.json", "tensorboard",
    ]  # fmt: skip


def test_a_checkpoint_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.json").write_bytes(b"\xff")
    with pytest.raises(RunError, match=r"checkpoint\.json is damaged"):
        read_checkpoint(tmp_path)


def test_an_output_that_may_not_be_written_is_refused_before_the_work(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "others").mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    with pytest.raises(RunError, match="others may not be written to"):
        RunFolder(config(cache, tmp_path / "others" / "run"), "f", 4)


def test_a_finished_run_holds_the_tokenizer_that_it_trained_with(cache: Path, tmp_path: Path) -> None:
    """AutoTokenizer replaces a tokenizer's rules by Qwen2's in a Qwen2's folder, unless the folder says otherwise."""
    run = config(cache, tmp_path / "run", steps=1)
    assert run.student.architecture is not None
    run.student.architecture.update(model_type="qwen2", num_key_value_heads=2)
    train(run)
    found, trained = load_tokenizer(tmp_path / "run" / "model"), load_tokenizer(cache / "teacher")
    assert found(TEXTS)["input_ids"] == trained(TEXTS)["input_ids"]


def test_an_output_that_became_a_file_is_named(cache: Path, tmp_path: Path) -> None:
    folder = RunFolder(config(cache, tmp_path / "a" / "run"), "f", 4)
    (tmp_path / "a").write_text("x")
    with pytest.raises(RunError, match=r"cannot make the output .*a/run: Not a directory"):
        folder.begin()


def test_leftovers_of_a_killed_training_go(cache: Path, tmp_path: Path) -> None:
    folder = RunFolder(config(cache, tmp_path / "run"), "f", 4)
    folder.begin()
    (folder.checkpoints / ".step-00000002-0123abcd.tmp" / "model").mkdir(parents=True)
    (folder.path / ".model-0123abcd.tmp").mkdir()
    assert complete_checkpoints(folder.checkpoints) == []
    with folder.locked():
        folder.begin()
    assert not list(folder.path.glob("**/*.tmp"))


def test_what_is_left_out_means_what_it_meant_when_the_run_began(cache: Path, tmp_path: Path) -> None:
    """A run of before batches had an order of their own: random, whatever the default is now."""
    train(config(cache, tmp_path / "run", order="random", steps=2))
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    del record["identity"]["order"]
    (tmp_path / "run" / "run.json").write_text(json.dumps(record))
    found = RunFolder(config(cache, tmp_path / "run", steps=2), record["fingerprint"], 2)
    assert found.config.order == "random" and found.record.finished
    with pytest.raises(RunError, match="order"):
        RunFolder(config(cache, tmp_path / "run", steps=2, order="length"), record["fingerprint"], 2)
    assert RunFolder(config(cache, tmp_path / "new", steps=2), "f", 2).config.order == "length"

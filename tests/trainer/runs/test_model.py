"""A finished run is a model by its folder's name, in every command alike; an unfinished one is refused in words."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.cli import main
from schemas.configs.training import StudentConfig, TrainingConfig
from schemas.configs.yaml import load_config
from schemas.errors import RunError
from tests.caches import small_cache
from tests.crash import interrupt
from trainer.runs.model import is_run, model_folder, model_name, without_runs
from trainer.runs.train import train


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache, a finished run and one that was interrupted."""
    folder = tmp_path_factory.mktemp("model")
    small_cache(folder)
    train(config(folder, folder / "done", folder / "teacher"))
    interrupt(config(folder, folder / "half", folder / "teacher"), 1)
    return folder


def config(made: Path, output: Path, model: Path, **student: Any) -> TrainingConfig:
    base: dict[str, Any] = {"cache": made / "cache", "output": output, "steps": 2, "batch_size": 2, "threads": 1}
    base |= {"student": {"model": str(model), "max_tokens": 64} | student, "device": "cpu", "checkpoint_every": 1}
    return TrainingConfig.model_validate(base)


def test_a_student_begins_as_a_runs_model_and_the_records_say_which(made: Path, tmp_path: Path) -> None:
    """As if model/ had been named, so that both are one run."""
    by_run = config(made, tmp_path / "run", made / "done", tokenizer=str(made / "done"))
    train(by_run)
    identity = json.loads((tmp_path / "run" / "run.json").read_text())["identity"]
    assert identity["student"]["model"] == identity["student"]["tokenizer"] == str(made / "done" / "model")
    assert train(by_run).already_done
    written = load_config(tmp_path / "run" / "config.yaml", TrainingConfig)
    assert written.student.model == str(made / "done" / "model") and train(written).already_done
    model = made / "done" / "model"
    train(config(made, tmp_path / "named", model, tokenizer=str(model)))
    first, second = (tmp_path / name / "model" / "model.safetensors" for name in ("run", "named"))
    assert first.read_bytes() == second.read_bytes()


Command = Callable[..., str]


@pytest.fixture
def stillroom(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    def call(*arguments: object) -> str:
        monkeypatch.setenv("COLUMNS", "300")
        monkeypatch.setattr(sys, "argv", ["stillroom", *map(str, arguments)])
        with pytest.raises(SystemExit):
            main()
        captured = capsys.readouterr()
        return captured.out + captured.err

    return call


def test_every_command_takes_a_run_and_refuses_an_unfinished_one(
    made: Path, tmp_path: Path, stillroom: Command
) -> None:
    generation = tmp_path / "generate.yaml"
    generation.write_text(f"cache: {made / 'cache'}\noutput: {tmp_path / 'out.jsonl'}\nmodel: x\nmax_new_tokens: 2\n")
    training = tmp_path / "train.yaml"
    training.write_text(f"cache: {made / 'cache'}\noutput: {tmp_path / 'run'}\nsteps: 1\nstudent: {{model: x}}\n")
    held_out = tmp_path / "held.txt"
    held_out.write_text("The old miller carried three silver coins.\n")
    for run, said in (("done", ""), ("half", f"the run {made / 'half'} is not finished; finish it with `stillroom")):
        shown = {
            "inspect": stillroom("inspect", made / "cache", "--student", made / run),
            "evaluate": stillroom("evaluate", made / run, "--text", held_out),
            "generate": stillroom(
                "generate", generation, "--set", f"model={made / run}", "--set", f"output={tmp_path / run}.jsonl"
            ),
            "train": stillroom(
                "train", training, "--set", f"student.model={made / run}", "--set", "student.max_tokens=64"
            ),
        }
        for command, output in shown.items():
            assert (said in output) if said else ("stillroom: " not in output), (command, output)
    training.write_text(training.read_text().replace("model: x", f"model: {made / 'done'}"))
    assert "its tokenizer is the teacher's" in stillroom("inspect", made / "cache", "--student", training)


def test_what_is_not_a_run_is_what_it_was(made: Path, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    assert not is_run(tmp_path) and model_folder(tmp_path) == tmp_path
    for name in ("gpt2", "no-such/model", "a\0b", "~nobody-of-this-name/x", "x" * 300, str(tmp_path)):
        assert model_name(name) == name
    student = StudentConfig(architecture={"model_type": "llama"}, tokenizer="teacher")
    assert without_runs(student) == student


def test_a_run_that_was_altered_or_damaged_is_refused(made: Path, tmp_path: Path) -> None:
    record = json.loads((made / "done" / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps(record))
    with pytest.raises(RunError, match=re.escape(f"{tmp_path} was finished, but {tmp_path / 'model'}")):
        model_folder(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps(record)[:-2])
    with pytest.raises(RunError, match=r"run\.json is damaged"):
        model_name(str(tmp_path))

"""Whole runs: the student is a model folder, resuming changes no bit of it, and the teacher is not needed."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from schemas.cache.reader import Cache
from schemas.cache.samples import CachedSample
from schemas.configs.training import TrainingConfig
from schemas.configs.yaml import dump_config
from schemas.errors import CacheError, ModelError, RunError, TokenizerError
from tests.caches import small_cache
from tests.commands import run
from tests.crash import interrupt
from tests.tiny import tiny_tokenizer
from tests.trainings import write_held_out
from trainer.alignment.student_text import StudentText, StudentTokenizer
from trainer.optimisation.loop import Loop, StepReport
from trainer.runs.metrics import read_metrics
from trainer.runs.train import train

STEPS = 6


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache whose teacher is gone, a second tokenizer, and held-out texts."""
    folder = tmp_path_factory.mktemp("runs")
    small_cache(folder)
    shutil.rmtree(folder / "teacher")
    tiny_tokenizer(folder / "other", "bytelevel", vocab=320)
    write_held_out(folder)
    return folder


def config(made: Path, output: Path, **changes: Any) -> TrainingConfig:
    base: dict[str, Any] = {
        "cache": made / "cache",
        "output": output,
        "student": {
            "architecture": {
                "model_type": "llama",
                "hidden_size": 16,
                "intermediate_size": 24,
                "num_hidden_layers": 3,
                "num_attention_heads": 2,
                "attention_dropout": 0.1,  # so that the generator's state matters
            },
            "tokenizer": "teacher",
            "max_tokens": 64,
        },
        "objective": [{"loss": "ce", "weight": 0.5}, {"loss": "sra", "weight": 0.5}, {"loss": "mta"}],
        "optimizer": {"lr": 1e-2},
        "steps": STEPS,
        "batch_size": 4,
        "accumulation": 2,
        "threads": 1,
        "checkpoint_every": 2,
        "log_every": 1,
        "evaluation": {"texts": made / "held_out.jsonl", "every": 3},
    }
    return TrainingConfig.model_validate(base | changes)


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "model.safetensors")


@pytest.fixture(scope="module")
def finished(made: Path) -> Path:
    train(config(made, made / "finished"))
    return made / "finished"


def test_a_run_leaves_a_model_folder_and_its_record(finished: Path, made: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(finished / "model")
    tokenizer = AutoTokenizer.from_pretrained(finished / "model")
    assert model.config.vocab_size == len(tokenizer)
    assert model(**tokenizer("The old", return_tensors="pt")).logits.isfinite().all()
    record = json.loads((finished / "run.json").read_text())
    fingerprint = json.loads((made / "cache" / "cache.json").read_text())["fingerprint"]
    assert record["finished"] and record["fingerprint"] == fingerprint
    lines = read_metrics(finished)
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, STEPS + 1))
    assert [line["step"] for line in lines if "bits_per_byte" in line] == [3, 6]
    assert {"ce/nll", "sra/cos", "sra/geo", "sra/span_kd", "mta/dsa", "mta/hid"} <= lines[1].keys()
    assert list((finished / "tensorboard").iterdir()) and not (finished / "checkpoints").exists()


def test_training_learns(made: Path, tmp_path: Path) -> None:
    train(config(made, tmp_path / "longer", steps=60, evaluation=None, objective=[{"loss": "ce"}]))
    losses = [line["loss"] for line in read_metrics(tmp_path / "longer")[1:]]
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])


@pytest.mark.parametrize("step", range(1, STEPS))
def test_resumed_at_any_step_the_student_is_the_same_bit_for_bit(
    made: Path, finished: Path, tmp_path: Path, step: int
) -> None:
    run = config(made, tmp_path / "run", checkpoint_every=1)
    interrupt(run, step)
    assert not (tmp_path / "run" / "model").exists()
    assert not train(run).already_done
    first, second = weights(finished), weights(tmp_path / "run")
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == (finished / "metrics.jsonl").read_bytes()


def test_killed_without_warning_it_goes_on_to_the_same_student(made: Path, finished: Path, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(dump_config(config(made, tmp_path / "run")))
    script = (
        "import os, sys; from trainer.optimisation.loop import Loop; original = Loop.step\n"
        "def step(self, number):\n"
        "    if number == 5: os.kill(os.getpid(), 9)\n"
        "    return original(self, number)\n"
        "Loop.step = step; from jobs.cli import main; sys.argv = ['stillroom', 'train', sys.argv[1]]; main()"
    )
    killed = run(["-c", script, path])
    assert killed.returncode == -9
    train(config(made, tmp_path / "run"))
    first, second = weights(finished), weights(tmp_path / "run")
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_finished_run_is_left_alone(made: Path, finished: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*")}
    result = train(config(made, finished))
    assert result.already_done and result.evaluation is not None
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*")} == before


def test_same_seed_same_student_other_seed_another(made: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        train(config(made, tmp_path / name, steps=2, seed=seed, evaluation=None))
    a, b, c = (weights(tmp_path / name) for name in "abc")
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not all(torch.equal(a[name], c[name]) for name in a)


def test_loader_workers_change_nothing(made: Path, finished: Path, tmp_path: Path) -> None:
    train(config(made, tmp_path / "run", loader_workers=2))
    first, second = weights(finished), weights(tmp_path / "run")
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_every_objective_starts_from_the_same_student(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no step moves a weight, what is saved is what a run started from."""
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self: None)
    runs = {"ce": [{"loss": "ce"}], "mta": [{"loss": "ce"}, {"loss": "mta"}]}
    for name, objective in runs.items():
        train(config(made, tmp_path / name, steps=1, objective=objective, evaluation=None))
    first, second = weights(tmp_path / "ce"), weights(tmp_path / "mta")
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_accumulation_equals_one_large_batch(made: Path, tmp_path: Path) -> None:
    """Divisors are those of the whole step: 4 x 2 samples weigh as 8 do, to rounding."""
    quiet = {"architecture": {"attention_dropout": 0.0}}
    student = config(made, tmp_path / "x").student.model_dump()
    student["architecture"] |= quiet["architecture"]
    for name, batch, accumulation in (("small", 4, 2), ("large", 8, 1)):
        changes = {
            "student": student,
            "batch_size": batch,
            "accumulation": accumulation,
            "evaluation": None,
            "steps": 1,
        }
        train(config(made, tmp_path / name, **changes))
    first, second = (read_metrics(tmp_path / name)[0] for name in ("small", "large"))
    for key in first:
        assert first[key] == pytest.approx(second[key], rel=1e-4), key


def test_an_open_cache_is_read_and_serves_many_runs(made: Path, finished: Path, tmp_path: Path) -> None:
    cache = Cache(made / "cache")
    for name in ("first", "second"):
        train(config(made, tmp_path / name, cache="/not/read"), cache)
    for name in ("first", "second"):
        first, second = weights(finished), weights(tmp_path / name)
        assert all(torch.equal(first[key], second[key]) for key in first)


def test_the_callers_random_numbers_and_threads_are_left_alone(made: Path, tmp_path: Path) -> None:
    torch.manual_seed(7)
    expected, threads = torch.rand(3), torch.get_num_threads()
    torch.manual_seed(7)
    train(config(made, tmp_path / "run", steps=1, evaluation=None, threads=threads + 1))
    assert torch.equal(torch.rand(3), expected) and torch.get_num_threads() == threads


def test_another_run_is_not_overwritten(made: Path, finished: Path) -> None:
    with pytest.raises(RunError, match=r"optimizer\.lr: found 0\.01, wanted 0\.02"):
        train(config(made, finished, optimizer={"lr": 2e-2}))


def test_a_folder_that_is_no_run_is_not_touched(made: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(RunError, match="holds no run"):
        train(config(made, tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"objective": [{"loss": "mta", "teacher_layers": [1, 2, 9]}]}, Exception, "no layer 9"),
        ({"objective": [{"loss": "sra", "teacher_layer": 0}]}, RunError, "embeddings"),
        ({"cache": "/nowhere"}, CacheError, "not a stillroom cache"),
        ({"student": {"model": "/nowhere/at/all"}}, (ModelError, TokenizerError), "/nowhere/at/all"),
        ({"student": {"architecture": {"model_type": "lama"}, "tokenizer": "teacher"}}, ModelError, "lama"),
        ({"student": {"architecture": {"hidden_size": 8}, "tokenizer": "teacher"}}, ModelError, "model_type"),
        (
            {"student": {"architecture": {"model_type": "llama", "hiden_size": 8}, "tokenizer": "teacher"}},
            ModelError,
            "hiden_size",
        ),
    ],
)
def test_what_cannot_be_leaves_nothing_behind(
    made: Path, tmp_path: Path, changes: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        train(config(made, tmp_path / "run", **changes))
    assert not (tmp_path / "run").exists()


def test_kd_across_tokenizers_is_refused_in_words(made: Path, tmp_path: Path) -> None:
    student = config(made, tmp_path / "x").student.model_dump() | {"tokenizer": str(made / "other")}
    with pytest.raises(RunError, match="kd pairs tokens one to one"):
        train(config(made, tmp_path / "run", student=student, objective=[{"loss": "kd"}]))


def test_a_loss_that_stops_being_finite_stops_the_run(made: Path, tmp_path: Path) -> None:
    run = config(made, tmp_path / "run", optimizer={"clip": None}, steps=20, evaluation=None)
    far_too_high = run.optimizer.model_copy(update={"lr": 1e30})  # no config can ask for it
    with pytest.raises(RunError, match=r"step \d+: loss .* not a finite number"):
        train(run.model_copy(update={"optimizer": far_too_high}))


def test_a_student_that_sees_the_future_is_refused(made: Path, tmp_path: Path) -> None:
    architecture = {"model_type": "bert", "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    student = {"architecture": architecture | {"num_attention_heads": 2}, "tokenizer": "teacher", "max_tokens": 64}
    with pytest.raises(ModelError, match="is not a causal language model"):
        train(config(made, tmp_path / "run", student=student))


def test_steps_without_a_token_to_learn_stop_the_run(made: Path, tmp_path: Path) -> None:
    student = config(made, tmp_path / "x").student.model_dump() | {"max_tokens": 2}
    with pytest.raises(RunError, match=r"20 steps in a row, up to step \d+, had no token .*student\.max_tokens is 2"):
        train(config(made, tmp_path / "run", **EMPTY, student=student, steps=60, min_coverage=0))


EMPTY: dict[str, Any] = {
    "order": "random",
    "evaluation": None,
    "batch_size": 1,
    "accumulation": 1,
    "log_every": 1,
    "checkpoint_every": 1,
    "objective": [{"loss": "ce"}],
    "keep_tokens": False,  # a test alters what the tokenizer makes
}


def test_a_step_without_a_token_to_learn_is_passed_over(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It costs no run and changes no weight, and a run that is resumed after it ends in the same student."""
    encode = StudentTokenizer.__call__

    def without_some(self: StudentTokenizer, samples: Sequence[CachedSample]) -> list[StudentText]:
        texts = encode(self, samples)
        return [
            replace(text, target=np.zeros_like(text.target)) if len(sample.text) % 2 else text
            for sample, text in zip(samples, texts, strict=True)
        ]

    monkeypatch.setattr(StudentTokenizer, "__call__", without_some)
    step, changed = Loop.step, list[bool]()

    def watched(self: Loop, number: int) -> StepReport:
        if number == crash_at:
            raise KeyboardInterrupt
        before = [parameter.detach().clone() for parameter in self.parameters]
        report = step(self, number)
        changed.append(not all(map(torch.equal, before, self.parameters)))
        assert changed[-1] != report.empty
        return report

    monkeypatch.setattr(Loop, "step", watched)
    crash_at = -1
    train(config(made, tmp_path / "whole", **EMPTY, steps=8))
    assert 0 < sum(changed) < 8
    lines = read_metrics(tmp_path / "whole")[1:]
    assert [("loss" in line, line.get("empty")) for line in lines] == [(c, None if c else 1.0) for c in changed]
    crash_at = 1 + changed.index(False)
    with pytest.raises(KeyboardInterrupt):
        train(config(made, tmp_path / "resumed", **EMPTY, steps=8))
    crash_at = -1
    train(config(made, tmp_path / "resumed", **EMPTY, steps=8))
    first, second = weights(tmp_path / "whole"), weights(tmp_path / "resumed")
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_file_in_the_place_of_its_config_is_refused_in_words() -> None:
    with pytest.raises(TypeError, match=r"a TrainingConfig is wanted, this is 'train\.yaml'; .*load_config reads one"):
        train("train.yaml")  # type: ignore[arg-type]

"""Several teachers with a weight each: the gradient is the weighted sum of those of each teacher alone."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from schemas.configs.training import TrainingConfig
from schemas.errors import RunError
from tests.caches import build_cache, extraction, write_corpus
from tests.crash import interrupt
from tests.tiny import TEXTS, tiny_llama, tiny_tokenizer
from tests.trainings import small_student, small_training
from trainer.objectives.loss import Loss
from trainer.runs.caches import join_fingerprints, open_caches
from trainer.runs.checkpoint import CheckpointRecord, Start
from trainer.runs.inputs import read_inputs
from trainer.runs.setup import Training, set_up
from trainer.runs.train import train

NEW = Start(None, CheckpointRecord(step=0, fingerprint="f", run="r"))
LOSSES = [{"loss": "ce"}, {"loss": "kd", "weight": 2.0}, {"loss": "sra"}]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two teachers of one tokenizer and other widths and depths; the second has read two samples fewer."""
    folder = tmp_path_factory.mktemp("teachers")
    for name, size, samples in (("a", {"seed": 0}, 14), ("b", {"seed": 1, "hidden": 16, "layers": 2}, 12)):
        teacher = folder / f"teacher-{name}"
        tiny_llama(teacher, tiny_tokenizer(teacher, "bpe"), **size)
        corpus = write_corpus(folder / f"{name}.jsonl", TEXTS[:samples])
        states = {"hidden": ["last"], "mass": ["last"]}
        build_cache(extraction(folder / name, teacher, corpus, states=states))
    (folder / "teacher").symlink_to("teacher-a")
    return folder


def config(made: Path, cache: Any, **changes: Any) -> TrainingConfig:
    student = small_student()
    said = {
        "cache": cache,
        "student": student,
        "output": made / "o",
        "objective": LOSSES,
        "batch_size": 4,
        "steps": 4,
        "seed": 5,
        "device": "cpu",
    }
    return TrainingConfig.model_validate(small_training(made, **said) | changes)


def both(made: Path, a: float = 0.7, b: float = 0.3) -> list[dict[str, Any]]:
    return [{"path": made / "a", "weight": a}, {"path": made / "b", "weight": b}]


def set_up_here(made: Path, cache: Any, alone: str | None = None, **changes: Any) -> Training:
    """A run of two teachers; or what it would be if it had only one of them, in every other respect the same."""
    asked = config(made, cache, **changes)
    caches = open_caches(asked)
    with torch.random.fork_rng():
        training = set_up(asked, caches, NEW, 4, read_inputs(asked, caches["corpus"].path))
    if alone is not None:
        for name, source in training.loop.sources.items():
            object.__setattr__(source, "weight", float(name == alone))
    return training


def gradients(training: Training) -> dict[str, torch.Tensor]:
    """Of the student, of the first step's batch."""
    loop = training.loop
    windows = {name: loop._draw(source) for name, source in loop.sources.items()}
    ids = {tuple(batch.sample_ids) for window in windows.values() for batch in window}
    assert len(ids) == 1  # all teachers speak of the same samples
    loop._accumulate(windows, loop._count(windows))
    return {name: p.grad.double().clone() for name, p in loop.model.named_parameters() if p.grad is not None}


def test_the_gradient_is_the_weighted_sum_of_those_of_each_teacher(made: Path) -> None:
    found = gradients(set_up_here(made, both(made)))
    first, second = (gradients(set_up_here(made, both(made), alone=name)) for name in ("corpus", "teacher-2"))
    assert found.keys() == first.keys() == second.keys()
    apart = max(float((first[name] - second[name]).abs().max()) for name in found)
    for name, gradient in found.items():
        wanted = 0.7 * first[name] + 0.3 * second[name]
        assert float((gradient - wanted).abs().max()) < 1e-5 * max(1e-3, apart), name
    assert apart > 1e-3  # the teachers do not teach the same


def test_each_teacher_s_part_is_that_of_a_run_over_its_cache_alone(made: Path) -> None:
    """Of losses without projections, whose first weights are drawn one teacher after the other."""
    losses = [{"loss": "ce"}, {"loss": "kd", "weight": 2.0}]
    part = gradients(set_up_here(made, both(made), alone="teacher-2", objective=losses))
    alone = gradients(set_up_here(made, made / "b", objective=losses))
    for name, gradient in alone.items():
        torch.testing.assert_close(part[name], gradient, rtol=1e-4, atol=1e-7)


def test_one_teacher_of_weight_1_is_the_run_of_today(made: Path, tmp_path: Path) -> None:
    runs = {"today": made / "b", "weighed": [{"path": made / "b", "weight": 1}], "listed": [made / "b"]}
    for name, cache in runs.items():
        train(config(made, cache, output=tmp_path / name, steps=3))
    for name in ("weighed", "listed"):
        for file in ("model/model.safetensors", "metrics.jsonl"):
            assert (tmp_path / name / file).read_bytes() == (tmp_path / "today" / file).read_bytes()
    again = train(config(made, made / "b", output=tmp_path / "weighed", steps=3))
    assert again.already_done


def test_an_interrupted_run_ends_in_the_same_student_and_weights_are_part_of_it(
    made: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    changes = {"steps": 6, "checkpoint_every": 2}
    with caplog.at_level(logging.WARNING):
        train(config(made, both(made), output=tmp_path / "whole", **changes))
    assert f"samples that not all teachers hold are left out: 2 of {made / 'a'}" in caplog.text
    cut = config(made, both(made), output=tmp_path / "cut", **changes)
    interrupt(cut, 5)
    with pytest.raises(RunError, match=r"holds another run; .*\n  cache: found \"0\.7\*"):
        train(config(made, both(made, 0.6, 0.4), output=tmp_path / "cut", **changes))
    train(cut)
    for file in ("model/model.safetensors", "metrics.jsonl"):
        assert (tmp_path / "cut" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    last = json.loads((tmp_path / "whole/metrics.jsonl").read_text().splitlines()[-1])
    terms = {name for name in last if name.startswith(("ce/", "kd/", "sra/"))}
    assert {name for name in last if name.startswith("teacher-2/")} == {f"teacher-2/{name}" for name in terms}


def test_weights_belong_to_the_identity_and_sum_to_1(made: Path) -> None:
    caches = open_caches(config(made, both(made)))
    assert list(caches) == ["corpus", "teacher-2"] and [len(cache) for cache in caches.values()] == [12, 12]
    prints = [json.loads((made / name / "cache.json").read_text())["fingerprint"] for name in "ab"]
    assert join_fingerprints(caches, (0.7, 0.3)) == f"0.7*{prints[0]}+0.3*{prints[1]}"
    with pytest.raises(ValueError, match=r"the weights of `cache` sum to 1\.1, and must sum to 1"):
        config(made, both(made, 0.7, 0.4))
    with pytest.raises(ValueError, match="`student_cache` is of one teacher"):
        kd = [{"loss": "kd"}, {"loss": "kd", "texts": "student"}]
        config(made, both(made), student_cache=made / "a", objective=kd)


def test_heads_move_and_nothing_else_does(made: Path) -> None:
    training = set_up_here(made, both(made))
    objective = training.loop.sources["teacher-2"].objective
    objective.move_heads(torch.device("meta"))
    moved = {name.rsplit(".", 1)[-1] for name, buffer in objective.named_buffers() if buffer.is_meta}
    assert moved == {"_weight"} and not any(parameter.is_meta for parameter in objective.parameters())
    assert all(isinstance(loss, Loss) for loss in objective.bound) and not training.loop.takes_turns

"""The whole way of DistiLLM-2, on tiny models: a student writes, its teacher reads it, both texts teach."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.cli import main
from schemas.cache.reader import Cache
from schemas.configs.training import TrainingConfig
from schemas.errors import RunError
from tests.caches import build_cache, extraction, write_corpus
from tests.crash import interrupt
from tests.tiny import tiny_llama, tiny_tokenizer
from trainer.runs.metrics import read_metrics
from trainer.runs.train import train

CORPUS = {"loss": "kd", "divergence": "skew_forward_kl", "weight": 0.5}
STUDENT = {"loss": "kd", "divergence": "skew_reverse_kl", "weight": 0.25, "texts": "student"}
KEEP = {"hidden": [3], "mass": []}


def stillroom(monkeypatch: pytest.MonkeyPatch, arguments: Sequence[str]) -> None:
    monkeypatch.setattr("sys.argv", ["stillroom", *arguments])
    try:
        main()
    except SystemExit as end:
        if end.code:
            raise


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher, a cache of its corpus, a student trained a little, its texts, and a cache of those."""
    folder = tmp_path_factory.mktemp("distillm2")
    tiny_llama(folder / "teacher", tiny_tokenizer(folder / "teacher", "bpe"))
    corpus = write_corpus(folder / "corpus.jsonl")
    build_cache(extraction(folder / "cache", folder / "teacher", corpus, states=KEEP))
    train(config(folder, folder / "first", [{"loss": "ce"}], steps=3))
    generation = {
        "cache": str(folder / "cache"),
        "output": str(folder / "texts.jsonl"),
        "model": str(folder / "first"),
        "max_new_tokens": 16,
        "device": "cpu",
        "threads": 1,
    }
    (folder / "generate.yaml").write_text(yaml.safe_dump(generation))
    with pytest.MonkeyPatch.context() as patch:
        stillroom(patch, ["generate", str(folder / "generate.yaml")])
    extract(folder, folder / "teacher", "student_cache")
    return folder


def extract(made: Path, teacher: Path, name: str) -> None:
    fields = {"id": "id", "prompt": "prompt", "response": "response"}
    build_cache(extraction(made / name, teacher, made / "texts.jsonl", corpus=fields, states=KEEP))


def config(made: Path, output: Path, objective: list[dict[str, Any]], **changes: Any) -> TrainingConfig:
    size = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    base: dict[str, Any] = {
        "cache": made / "cache",
        "output": output,
        "student": {
            "architecture": {"model_type": "llama", "attention_dropout": 0.1, **size},
            "tokenizer": "teacher",
            "max_tokens": 64,
        },
        "objective": objective,
        "optimizer": {"lr": 1e-2},
        "steps": 4,
        "batch_size": 4,
        "accumulation": 2,
        "threads": 1,
        "checkpoint_every": 1,
        "log_every": 1,
    }
    return TrainingConfig.model_validate(base | changes)


def test_what_the_student_wrote_is_a_cache_of_its_own(made: Path) -> None:
    records = [json.loads(line) for line in (made / "texts.jsonl").read_text(encoding="utf-8").splitlines()]
    written, corpus = Cache(made / "student_cache"), Cache(made / "cache")
    assert len(written) == len(records) > 40
    for position, record in enumerate(records):
        sample = written.sample(position)
        assert (sample.id, sample.text[: sample.targets[0, 0]]) == (record["id"], record["prompt"])
        original = corpus.sample(corpus.position(record["id"]))
        assert original.text[: original.targets[0, 0]] == record["prompt"] and original.text != sample.text
    assert written.manifest.identity["teacher"] == corpus.manifest.identity["teacher"]


def test_the_objective_is_the_sum_of_its_two_parts(made: Path, tmp_path: Path) -> None:
    """At the first step, without dropout: each part alone, over its own cache, and both at once."""
    student = config(made, tmp_path, [{"loss": "ce"}]).student.model_dump()
    student["architecture"] |= {"attention_dropout": 0.0}
    runs: dict[str, dict[str, Any]] = {
        "corpus": {"objective": [CORPUS]},
        "student": {"objective": [STUDENT | {"texts": "corpus"}], "cache": made / "student_cache"},
        "both": {"objective": [CORPUS, STUDENT], "student_cache": made / "student_cache"},
    }
    first: dict[str, dict[str, float]] = {}
    for name, changes in runs.items():
        objective = changes.pop("objective")
        train(config(made, tmp_path / name, objective, student=student, steps=1, **changes))
        first[name] = read_metrics(tmp_path / name)[1]
    assert first["both"]["loss"] == pytest.approx(first["corpus"]["loss"] + first["student"]["loss"], rel=1e-5)
    forward, reverse = "kd/skew_forward_kl", "kd/skew_reverse_kl"
    assert first["both"][forward] == pytest.approx(first["corpus"][forward], rel=1e-5)
    assert first["both"][f"student/{reverse}"] == pytest.approx(first["student"][reverse], rel=1e-5)
    assert first["both"]["loss"] == pytest.approx(
        0.5 * first["both"][forward] + 0.25 * first["both"][f"student/{reverse}"], rel=1e-5
    )
    assert first["corpus"][forward] > 0 and first["student"][reverse] > 0


def test_resumed_at_any_step_it_is_the_same_student(made: Path, tmp_path: Path) -> None:
    both: dict[str, Any] = {
        "student_cache": made / "student_cache",
        "objective": [{"loss": "ce", "weight": 0.1}, CORPUS, STUDENT],
    }
    train(config(made, tmp_path / "whole", **both))
    for step in (1, 3):
        run = config(made, tmp_path / f"crashed{step}", **both)
        interrupt(run, step)
        train(run)
        for file in ("model/model.safetensors", "metrics.jsonl"):
            assert (run.output / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


def test_texts_that_another_teacher_read_are_refused(made: Path, tmp_path: Path) -> None:
    tiny_llama(tmp_path / "other", tiny_tokenizer(tmp_path / "other", "bpe"), seed=1)
    extract(made, tmp_path / "other", "other_cache")
    run = config(made, tmp_path / "run", [CORPUS, STUDENT], student_cache=made / "other_cache")
    with pytest.raises(RunError, match=r"not of one teacher(.|\n)*weights: found \".+\", wanted \".+\""):
        train(run)
    assert not (tmp_path / "run").exists()


def test_a_run_without_a_model_yet_writes_nothing(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    record = json.loads((made / "first" / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(record | {"finished": False, "model": None}))
    overrides = ["--set", f"model={run}", "--set", f"output={tmp_path / 'out.jsonl'}"]
    with pytest.raises(SystemExit):
        stillroom(monkeypatch, ["generate", str(made / "generate.yaml"), *overrides])
    assert "is not finished; finish it with `stillroom train" in " ".join(capsys.readouterr().err.split())
    assert [path.name for path in tmp_path.iterdir()] == ["run"]

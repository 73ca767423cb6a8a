"""What `stillroom train` may be asked for: parts that fit each other, and nothing that says nothing."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from schemas.configs.training import TrainingConfig

BASE: dict[str, Any] = {"cache": "c", "output": "o", "student": {"model": "m"}, "steps": 1}
ENCODER: dict[str, Any] = {"student": {"kind": "encoder", "model": "m"}, "objective": [{"loss": "talas"}]}
OF_STUDENT: dict[str, Any] = {"loss": "kd", "texts": "student"}


def test_defaults_make_a_run_of_cross_entropy() -> None:
    config = TrainingConfig.model_validate(BASE)
    assert [(loss.name, loss.weight) for loss in config.objective] == [("ce", 1.0)]
    optimizer = config.optimizer
    assert (optimizer.lr, optimizer.min_lr, optimizer.warmup, optimizer.betas) == (1e-3, 0.0, 0.1, (0.9, 0.95))
    assert (optimizer.weight_decay, optimizer.clip, optimizer.eps) == (0.1, 1.0, 1e-8)
    assert TrainingConfig.model_validate(config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    "changes",
    [
        ENCODER,
        ENCODER | {"evaluation": {"pairs": "p.csv"}},
        {"evaluation": {"texts": "t.txt"}},
        {"steps": None, "epochs": 0.5},
        {"objective": [{"loss": "ce"}, OF_STUDENT], "student_cache": "s"},
        {"sharding": "full", "compile": True, "student": {"model": "m", "dtype": "bfloat16"}},
        {"sharding": "full", "student": {"model": "m", "dtype": "bfloat16", "adapter": {}}},
        {"objective": [{"loss": "ce"}, OF_STUDENT | {"weight": 0}]},
        {"student": {"architecture": {"model_type": "llama"}, "tokenizer": "teacher", "embeddings": "teacher_pca"}},
    ],
)
def test_parts_that_fit(changes: dict[str, Any]) -> None:
    TrainingConfig.model_validate(BASE | changes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"epochs": 1}, "give exactly one of steps, epochs"),
        ({"steps": None}, "give exactly one of steps, epochs"),
        ({"objective": []}, "objective"),
        ({"objective": [{"loss": "ce", "weight": 0}]}, "every loss of the objective has weight 0"),
        ({"objective": [{"loss": "ce"}, OF_STUDENT]}, "`student_cache` goes with a loss that has `texts: student`"),
        (
            {"student_cache": "s"},
            "`student_cache` goes with a loss that has `texts: student`, and such a loss needs it",
        ),
        ({"objective": [OF_STUDENT], "student_cache": "s"}, "give one over the corpus, or swap the two caches"),
        ({"student": {"model": "m", "max_tokens": 3}, "evaluation": {"texts": "t"}}, "student.max_tokens of 4 or more"),
        (
            {"objective": [{"loss": "talas"}]},
            "talas cannot teach a student of `kind: causal`: set student.kind to encoder",
        ),
        (ENCODER | {"sharding": "full"}, "`sharding: full` is for causal students"),
        (
            {"student": {"architecture": {"model_type": "llama"}, "tokenizer": "teacher", "adapter": {}}},
            "`adapter` goes with `model`",
        ),
        (ENCODER | {"objective": [{"loss": "ce"}]}, "ce cannot teach a student of `kind: encoder`"),
        (
            {"evaluation": {"pairs": "p"}},
            "an evaluation of a causal student has `texts`, one of an encoder has `pairs`",
        ),
        (ENCODER | {"evaluation": {"texts": "t"}}, "an evaluation of a causal student has `texts`"),
        ({"evaluation": {}}, "give exactly one of texts, pairs"),
        (
            ENCODER | {"evaluation": {"pairs": "p", "conversations": {}}},
            "`conversations` says how the records of `texts` are read: give `texts`",
        ),
        ({"optimizer": {"lr": 1e-4, "min_lr": 2e-4}}, "min_lr (0.0002) is above lr (0.0001)"),
        ({"optimizer": {"schedule": "constant", "min_lr": 1e-5}}, "`schedule: constant` never comes to a min_lr"),
        (
            {"optimizer": {"schedule": "wsd", "warmup": 0.5, "cooldown": 0.6}},
            "warmup (0.5) and cooldown (0.6) are more",
        ),
        ({"optimizer": {"cooldown": 0.6}}, "only wsd has `cooldown`"),
        ({"optimizer": {"name": "adafactor", "betas": (0.8, 0.9)}}, "only adamw, adam, sgd has `betas`"),
        ({"optimizer": {"name": "sgd", "eps": 1e-6}}, "only adamw, adam has `eps`"),
        ({"student": {}}, "give exactly one of model, architecture"),
        ({"student": {"architecture": {"model_type": "llama"}}}, "an architecture has no tokenizer of its own"),
        ({"student": {"model": "m", "embeddings": "teacher_pca"}}, "is for an architecture with `tokenizer: teacher`"),
    ],
)
def test_parts_that_do_not_fit_are_named(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as refused:
        TrainingConfig.model_validate(BASE | changes)
    assert said in str(refused.value)


def test_a_run_names_one_cache_or_several() -> None:
    one, two = (TrainingConfig.model_validate(BASE | {"cache": cache}) for cache in ("a", ["a", "b/c"]))
    assert one.caches == (Path("a"),) and two.caches == (Path("a"), Path("b/c"))
    assert one.model_dump(mode="json")["cache"] == "a" and two.model_dump(mode="json")["cache"] == ["a", "b/c"]
    assert TrainingConfig.model_validate_json(two.model_dump_json()) == two


def test_a_cache_under_a_url_is_its_copy_here_and_the_url_for_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STILLROOM_CACHE", str(tmp_path))
    config = TrainingConfig.model_validate(BASE | {"cache": ["memory://a/b", "c"]})
    assert config.caches == (tmp_path / "memory" / "a" / "b", Path("c"))
    assert config.model_dump(mode="json")["cache"] == ["memory://a/b", "c"]
    said = config.model_dump_json()
    monkeypatch.setenv("STILLROOM_CACHE", str(tmp_path / "other"))  # as on another machine
    there = TrainingConfig.model_validate_json(said)
    assert there.caches == (tmp_path / "other" / "memory" / "a" / "b", Path("c"))


@pytest.mark.parametrize(
    ("cache", "said"),
    [
        ([], "List should have at least 1 item"),
        (["a", 7], "Input is not a valid path"),
        ({"a": 1}, "Input is not a valid path"),
        (["a", "nobody://b/c"], "'nobody://b/c' is a URL of a scheme that nobody here knows"),
    ],
)
def test_a_wrong_list_of_caches_is_one_problem(cache: object, said: str) -> None:
    with pytest.raises(ValidationError, match="1 validation error") as refused:
        TrainingConfig.model_validate(BASE | {"cache": cache})
    assert said in str(refused.value)

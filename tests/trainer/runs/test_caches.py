"""The caches of a run: one teacher, one identity, and how many steps an epoch is."""

import math
from pathlib import Path
from typing import Any

import pytest

from schemas.cache.reader import Cache
from schemas.configs.training import TrainingConfig
from schemas.errors import RunError
from tests.caches import build_cache, extraction, write_corpus
from tests.tiny import TEXTS, tiny_llama, tiny_tokenizer
from trainer.runs.caches import count_steps, join_fingerprints, open_caches


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two caches of one teacher."""
    folder = tmp_path_factory.mktemp("caches")
    tiny_llama(folder / "teacher", tiny_tokenizer(folder / "teacher", "bpe"))
    for name, texts in (("corpus", TEXTS[:8]), ("student", TEXTS[8:12])):
        states = {"hidden": [3], "mass": []}
        corpus = write_corpus(folder / f"{name}.jsonl", texts)
        build_cache(extraction(folder / name, folder / "teacher", corpus, states=states))
    return folder


def config(**given: Any) -> TrainingConfig:
    both = {"objective": [{"loss": "kd"}, {"loss": "kd", "texts": "student"}]} if "student_cache" in given else {}
    student = {"architecture": {"model_type": "llama"}, "tokenizer": "teacher"}
    return TrainingConfig.model_validate({"output": "o", "student": student, "steps": 1} | both | given)


def test_one_cache_is_opened_unless_it_is_given(made: Path) -> None:
    caches = open_caches(config(cache=made / "corpus"))
    assert list(caches) == ["corpus"] and len(caches["corpus"]) == 8
    assert open_caches(config(cache=made / "nowhere"), caches["corpus"])["corpus"] is caches["corpus"]
    assert join_fingerprints(caches) == caches["corpus"].manifest.fingerprint


def test_two_caches_of_one_teacher(made: Path) -> None:
    caches = open_caches(config(cache=made / "corpus", student_cache=made / "student"))
    assert {name: len(cache) for name, cache in caches.items()} == {"corpus": 8, "student": 4}
    prints = [Cache(made / name).manifest.fingerprint for name in ("corpus", "student")]
    assert join_fingerprints(caches) == "+".join(prints)


def test_caches_of_two_teachers_are_refused_with_what_differs(made: Path, tmp_path: Path) -> None:
    tiny_llama(tmp_path / "other", tiny_tokenizer(tmp_path / "other", "bpe"), seed=1)
    states = {"hidden": [3], "mass": []}
    build_cache(extraction(tmp_path / "cache", tmp_path / "other", made / "student.jsonl", states=states))
    with pytest.raises(RunError, match=r"are not of one teacher, run in one way:\n  teacher|weights") as refused:
        open_caches(config(cache=made / "corpus", student_cache=tmp_path / "cache"))
    assert str(tmp_path / "cache") in str(refused.value) and str(made / "corpus") in str(refused.value)


@pytest.mark.parametrize(
    ("given", "samples", "steps"),
    [
        ({"steps": 7, "batch_size": 4}, 100, 7),
        ({"steps": None, "epochs": 1, "batch_size": 4}, 100, 25),
        ({"steps": None, "epochs": 1, "batch_size": 4}, 101, 26),
        ({"steps": None, "epochs": 3, "batch_size": 4, "accumulation": 2}, 101, math.ceil(303 / 8)),
        ({"steps": None, "epochs": 0.5, "batch_size": 10}, 100, 5),
    ],
)
def test_steps_of_a_run(given: dict[str, Any], samples: int, steps: int) -> None:
    assert count_steps(config(cache="c", **given), samples) == steps

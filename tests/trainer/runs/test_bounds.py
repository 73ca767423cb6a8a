"""Settings that would keep a machine busy for ever are told before the work."""

import os
from typing import Any

import pytest

from schemas.configs.training import TrainingConfig
from schemas.errors import RunError
from trainer.runs.bounds import require_sensible


def config(**changes: Any) -> TrainingConfig:
    given = {"cache": "c", "output": "o", "student": {"model": "m"}, "steps": 1}
    return TrainingConfig.model_validate(given | changes)


@pytest.mark.parametrize(
    ("changes", "samples"),
    [
        ({"batch_size": 1024}, 3),  # few enough, however small the cache
        ({"batch_size": 64, "accumulation": 16}, 3),
        ({"batch_size": 20_000}, 2_000),
        ({"loader_workers": 16}, 3),
    ],
)
def test_ordinary_settings_pass(changes: dict[str, Any], samples: int) -> None:
    require_sensible(config(**changes), samples)


@pytest.mark.parametrize(
    ("changes", "samples", "said"),
    [
        ({"batch_size": 1 << 20}, 55, "one step would take 1,048,576 samples (batch_size 1,048,576 x accumulation 1)"),
        ({"batch_size": 2, "accumulation": 1 << 20}, 55, "2,097,152 samples (batch_size 2 x accumulation 1,048,576)"),
        ({"batch_size": 20_001}, 2_000, "and the cache holds 2,000; make batch_size or accumulation smaller"),
    ],
)
def test_a_step_over_the_whole_cache_again_and_again_is_refused(
    changes: dict[str, Any], samples: int, said: str
) -> None:
    with pytest.raises(RunError) as refused:
        require_sensible(config(**changes), samples)
    assert said in str(refused.value)


def test_more_threads_than_cores_can_run_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1})
    require_sensible(config(loader_workers=16), 100)
    with pytest.raises(RunError) as refused:
        require_sensible(config(loader_workers=17), 100)
    assert str(refused.value) == "loader_workers: 17 threads would share 2 cores; up to 2 are of use"
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(32)))
    require_sensible(config(loader_workers=256), 100)

"""The schedules against numbers worked out by hand."""

from typing import Any

import pytest

from schemas.configs.training import OptimizerConfig
from trainer.optimisation.schedule import share_of_peak


def shares(steps: int, **changes: Any) -> list[float]:
    config = OptimizerConfig.model_validate({"lr": 0.4, "min_lr": 0.1, "warmup": 0.2, **changes})
    return [share_of_peak(config, step, steps) for step in range(steps)]


def test_a_line_falls_evenly_from_the_peak_to_the_floor() -> None:
    assert shares(6, warmup=1 / 3, schedule="linear") == pytest.approx([0.5, 1, 1, 0.75, 0.5, 0.25])


@pytest.mark.parametrize(
    ("shape", "last"),
    [
        ("linear", [0.8125, 0.625, 0.4375, 0.25]),
        ("cosine", [0.25 + 0.375 * 1.70710678, 0.625, 0.25 + 0.375 * 0.29289322, 0.25]),
        ("sqrt", [0.625, 0.25 + 0.75 * 0.29289322, 0.25 + 0.75 * 0.13397460, 0.25]),
    ],
)
def test_wsd_is_at_its_peak_until_its_last_steps(shape: str, last: list[float]) -> None:
    found = shares(10, schedule="wsd", cooldown=0.4, cooldown_shape=shape)
    assert found == pytest.approx([0.5, 1, 1, 1, 1, 1, *last])


def test_wsd_may_have_no_stable_part_and_too_few_steps_for_a_cooldown() -> None:
    assert shares(5, schedule="wsd", cooldown=0.8) == pytest.approx([1, 0.8125, 0.625, 0.4375, 0.25])
    assert shares(2, schedule="wsd", cooldown=0.2, warmup=0) == [1, 1]


def test_a_constant_rate_stays_at_its_peak() -> None:
    assert shares(5, schedule="constant", min_lr=0) == [1, 1, 1, 1, 1]


def test_beyond_the_end_every_rate_stays() -> None:
    for schedule, end in {"cosine": 0.25, "linear": 0.25, "wsd": 0.25}.items():
        config = OptimizerConfig.model_validate({"lr": 0.4, "min_lr": 0.1, "schedule": schedule})
        assert share_of_peak(config, 25, 10) == pytest.approx(end)

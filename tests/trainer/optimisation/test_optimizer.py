"""The optimisers' groups and rates, against numbers worked out by hand and plain float64 algorithms."""

import math
from typing import Any

import pytest
import torch
from torch import nn

from schemas.configs.training import OptimizerConfig
from trainer.optimisation.optimizer import make_optimizer, set_learning_rate


class Model(nn.Module):
    """A matrix, a bias, a norm's scale, and a matrix that is not trained."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.tensor([[1.0, -2.0], [0.5, 3.0]]))
        self.bias = nn.Parameter(torch.tensor([0.25, -1.0]))
        self.scale = nn.Parameter(torch.ones(2))
        self.frozen = nn.Parameter(torch.ones(2, 2), requires_grad=False)


def config(**changes: Any) -> OptimizerConfig:
    return OptimizerConfig.model_validate({"lr": 0.4, "min_lr": 0.1, "warmup": 0.2, **changes})


# lr 0.4, floor 0.1, 10 steps of which 2 warm up: the other 8 are a half cosine over 7 intervals.
# 0.1 + 0.3 * (1 + cos(pi k / 7)) / 2 for k = 0..7, and cos(pi/7) = 0.9009688679, cos(2pi/7) = 0.6234898019,
# cos(3pi/7) = 0.2225209340.
SCHEDULE = [
    0.2,
    0.4,
    0.4,
    0.1 + 0.15 * (1 + 0.9009688679),
    0.1 + 0.15 * (1 + 0.6234898019),
    0.1 + 0.15 * (1 + 0.2225209340),
    0.1 + 0.15 * (1 - 0.2225209340),
    0.1 + 0.15 * (1 - 0.6234898019),
    0.1 + 0.15 * (1 - 0.9009688679),
    0.1,
]


def test_the_rate_rises_linearly_and_falls_by_half_a_cosine() -> None:
    optimizer = make_optimizer(Model(), [], config())
    rates = [set_learning_rate(optimizer, config(), step, 10) for step in range(10)]
    assert rates == pytest.approx(SCHEDULE, abs=1e-9)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1)


def test_every_group_follows_by_the_share_of_its_own_peak() -> None:
    projection = nn.Parameter(torch.zeros(2, 2))
    extra = {"params": [projection], "lr": 5e-4, "weight_decay": 0.0}
    optimizer = make_optimizer(Model(), [extra], config())
    for step, rate in enumerate(SCHEDULE):
        set_learning_rate(optimizer, config(), step, 10)
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([rate, rate, 5e-4 * rate / 0.4])


def test_without_warm_up_the_first_step_is_at_the_peak_and_a_single_step_too() -> None:
    optimizer = make_optimizer(Model(), [], config(warmup=0.0))
    assert set_learning_rate(optimizer, config(warmup=0.0), 0, 10) == pytest.approx(0.4)
    assert set_learning_rate(optimizer, config(warmup=0.0), 9, 10) == pytest.approx(0.1)
    assert set_learning_rate(optimizer, config(warmup=0.0), 0, 1) == pytest.approx(0.4)


def test_with_two_steps_after_the_warm_up_the_last_is_at_the_floor() -> None:
    optimizer = make_optimizer(Model(), [], config(warmup=0.5))
    rates = [set_learning_rate(optimizer, config(warmup=0.5), step, 4) for step in range(4)]
    assert rates == pytest.approx([0.2, 0.4, 0.4, 0.1])


def test_beyond_its_end_the_rate_stays_at_the_floor() -> None:
    optimizer = make_optimizer(Model(), [], config())
    assert set_learning_rate(optimizer, config(), 25, 10) == pytest.approx(0.1)


def test_the_warm_up_is_rounded_to_whole_steps() -> None:
    optimizer = make_optimizer(Model(), [], config())
    rates = [set_learning_rate(optimizer, config(warmup=0.1), step, 26) for step in range(4)]  # 2.6 -> 3 steps
    assert rates == pytest.approx([0.4 / 3, 0.8 / 3, 0.4, 0.4])


def test_matrices_decay_and_vectors_do_not() -> None:
    model = Model()
    matrices, vectors = make_optimizer(model, [], config(weight_decay=0.3)).param_groups
    assert [id(p) for p in matrices["params"]] == [id(model.matrix)] and matrices["weight_decay"] == 0.3
    assert [id(p) for p in vectors["params"]] == [id(model.bias), id(model.scale)] and vectors["weight_decay"] == 0.0
    assert (matrices["peak"], vectors["peak"], matrices["lr"]) == (0.4, 0.4, 0.4)


def test_a_group_without_parameters_is_left_out() -> None:
    groups = make_optimizer(nn.Linear(2, 2, bias=False), [{"params": [], "lr": 1.0}], config()).param_groups
    assert [len(group["params"]) for group in groups] == [1]


def test_all_of_the_student_decays_where_that_is_asked_for() -> None:
    extra = {"params": [nn.Parameter(torch.zeros(2))], "lr": 5e-4, "weight_decay": 0.0}
    groups = make_optimizer(Model(), [extra], config(weight_decay=0.3, decay="all")).param_groups
    assert [group["weight_decay"] for group in groups] == [0.3, 0.3, 0.0]


def adamw(values: list[float], gradients: list[list[float]], decay: float, settings: OptimizerConfig) -> list[float]:
    """Loshchilov and Hutter's algorithm 2, number by number in float64."""
    first, second = settings.betas
    m, v = [0.0] * len(values), [0.0] * len(values)
    for step, gradient in enumerate(gradients, start=1):
        for i, g in enumerate(gradient):
            m[i] = first * m[i] + (1 - first) * g
            v[i] = second * v[i] + (1 - second) * g * g
            mean, square = m[i] / (1 - first**step), v[i] / (1 - second**step)
            values[i] -= settings.lr * decay * values[i]
            values[i] -= settings.lr * mean / (math.sqrt(square) + settings.eps)
    return values


def test_the_update_is_that_of_adamw_with_the_settings_that_were_asked_for() -> None:
    settings = config(lr=0.05, min_lr=0.0, betas=(0.8, 0.7), eps=0.01, weight_decay=0.3)
    model = Model()
    optimizer = make_optimizer(model, [], settings)
    gradients = [[0.3, -0.1, 2.0, 0.0], [-0.2, 0.4, 1.0, 0.5], [0.1, 0.1, -1.0, 0.2]]
    for gradient in gradients:
        model.matrix.grad = torch.tensor(gradient).reshape(2, 2)
        model.bias.grad = torch.tensor(gradient[:2])
        optimizer.step()
    matrix = adamw([1.0, -2.0, 0.5, 3.0], gradients, 0.3, settings)
    bias = adamw([0.25, -1.0], [gradient[:2] for gradient in gradients], 0.0, settings)
    assert model.matrix.flatten().tolist() == pytest.approx(matrix, rel=1e-5)
    assert model.bias.tolist() == pytest.approx(bias, rel=1e-5)
    assert torch.equal(model.frozen, torch.ones(2, 2))


def updated(gradients: list[list[float]], **changes: Any) -> list[float]:
    """The model's matrix after a step with each of the gradients."""
    model = Model()
    optimizer = make_optimizer(model, [], config(lr=0.05, min_lr=0.0, **changes))
    for gradient in gradients:
        model.matrix.grad = torch.tensor(gradient).reshape(2, 2)
        optimizer.step()
    values: list[float] = model.matrix.flatten().tolist()
    return values


GRADIENTS = [[0.3, -0.1, 2.0, 0.0], [-0.2, 0.4, 1.0, 0.5], [0.1, 0.1, -1.0, 0.2]]


def test_sgd_adds_the_decay_to_the_gradient_and_keeps_a_momentum() -> None:
    values, speed = [1.0, -2.0, 0.5, 3.0], [0.0] * 4
    for gradient in GRADIENTS:
        speed = [0.8 * v + g + 0.3 * w for v, g, w in zip(speed, gradient, values, strict=True)]
        values = [w - 0.05 * v for w, v in zip(values, speed, strict=True)]
    assert updated(GRADIENTS, name="sgd", betas=(0.8, 0.95), weight_decay=0.3) == pytest.approx(values, rel=1e-5)


def test_adam_without_decay_is_adamw_and_with_it_is_not() -> None:
    plain = updated(GRADIENTS, name="adam", weight_decay=0.0)
    assert plain == pytest.approx(updated(GRADIENTS, weight_decay=0.0), rel=1e-6)
    # The first step's update is the sign of gradient and decay together.
    signs = [1, -1, 1, 1]
    expected = [w - 0.05 * s for w, s in zip([1.0, -2.0, 0.5, 3.0], signs, strict=True)]
    assert updated(GRADIENTS[:1], name="adam", weight_decay=0.3) == pytest.approx(expected, rel=1e-5)


def test_the_first_step_of_adafactor_is_relative_to_the_weights() -> None:
    """Shazeer and Stern's algorithm 4 at step 1: beta2 is 0, the factored square has rank 1, and the clip is at 1."""
    gradient, values = [[0.3, -0.1], [2.0, 0.5]], [[1.0, -2.0], [0.5, 3.0]]
    rows = [sum(g * g for g in row) / 2 for row in gradient]
    columns = [sum(row[i] ** 2 for row in gradient) / 2 for i in range(2)]
    mean = sum(rows) / 2
    update = [
        [g / math.sqrt(r * c / mean) for g, c in zip(row, columns, strict=True)]
        for row, r in zip(gradient, rows, strict=True)
    ]
    clip = max(1.0, math.sqrt(sum(u * u for row in update for u in row) / 4))
    size = math.sqrt(sum(w * w for row in values for w in row) / 4)
    expected = [
        w * (1 - 0.05 * 0.3) - 0.05 * size * u / clip
        for old, new in zip(values, update, strict=True)
        for w, u in zip(old, new, strict=True)
    ]
    assert updated([[0.3, -0.1, 2.0, 0.5]], name="adafactor", weight_decay=0.3) == pytest.approx(expected, rel=1e-5)

"""Gradients summed over two real processes: by arithmetic, whichever rank has one."""

from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trainer.optimisation import gradients
from trainer.optimisation.gradients import clip_gradients, norm_of, sum_gradients
from trainer.optimisation.ranks import ALONE


def test_they_are_summed_and_missing_ones_count_as_zero(exchanged: dict[str, Any]) -> None:
    # The first rank gives each times 1, the second times 2; nobody has the last.
    assert exchanged["gradients"] == [[[3.0, 6.0], [8.0], [8.0], None]] * 2


def test_alone_they_stay_what_they_are() -> None:
    weight = nn.Parameter(torch.zeros(2))
    weight.grad = torch.ones(2)
    sum_gradients([weight, nn.Parameter(torch.zeros(1))], ALONE)
    assert weight.grad.tolist() == [1.0, 1.0]


def test_buckets_hold_neighbours_of_one_dtype_up_to_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gradients, "BUCKET", 4)
    sizes = [(2, torch.float32), (2, torch.float32), (1, torch.float32), (1, torch.float64), (9, torch.float64)]
    found: Iterable[list[Tensor]] = gradients._buckets([torch.zeros(n, dtype=dtype) for n, dtype in sizes])
    assert [[each.numel() for each in bucket] for bucket in found] == [[2, 2], [1], [1], [9]]


def test_the_norm_of_many_numbers_is_that_of_float64_and_clips_by_it() -> None:
    random = torch.Generator().manual_seed(0)
    large, small = torch.randn(3000, 4001, generator=random), torch.randn(7, generator=random)
    wanted = (large.double().square().sum() + small.double().square().sum()).sqrt().item()
    assert norm_of([large.T, small]) == pytest.approx(wanted, rel=3e-7)
    weights = [nn.Parameter(torch.empty_like(each)) for each in (large, small)]
    for weight, gradient in zip(weights, (large, small), strict=True):
        weight.grad = gradient.clone()
    assert clip_gradients([*weights, nn.Parameter(torch.zeros(1))], 2 * wanted) == pytest.approx(wanted, rel=3e-7)
    assert weights[1].grad is not None and torch.equal(weights[1].grad, small)
    clip_gradients(weights, wanted / 4)
    torch.testing.assert_close(weights[1].grad, small / 4)

"""Gradients summed over two real processes: by arithmetic, whichever rank has one."""

from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trainer.optimisation import gradients
from trainer.optimisation.gradients import sum_gradients
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

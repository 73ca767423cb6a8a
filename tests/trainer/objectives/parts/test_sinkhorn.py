"""Sinkhorn plans against the iteration written out: rows and columns of exp(-C / lambda) brought to 1 in turn."""

import pytest
import torch
from torch import Tensor

from trainer.objectives.parts.sinkhorn import sinkhorn_distance, sinkhorn_plan


def naive_plan(cost: Tensor, regularisation: float, iterations: int) -> Tensor:
    """MultiLevelOT, equation 19, of one sample without padding."""
    plan = (-cost / regularisation).exp()
    for _ in range(iterations):
        plan = plan / plan.sum(1, keepdim=True)
        plan = plan / plan.sum(0, keepdim=True)
    return plan


@pytest.mark.parametrize(("rows", "columns"), [(3, 3), (2, 5), (5, 2), (1, 4), (1, 1)])
@pytest.mark.parametrize("regularisation", [0.1, 1.0])
def test_a_padded_batch_gives_each_samples_plan(rows: int, columns: int, regularisation: float) -> None:
    torch.manual_seed(rows * 10 + columns)
    cost = torch.rand(2, 6, 6, dtype=torch.float64, requires_grad=True)
    mask_T, mask_S = torch.arange(6) < rows, torch.arange(6) < columns
    masks = torch.stack([mask_T, mask_T.flip(0)]), torch.stack([mask_S, mask_S])
    plan = sinkhorn_plan(cost, *masks, regularisation, iterations=7)
    wanted = naive_plan(cost[0, :rows, :columns], regularisation, 7)
    torch.testing.assert_close(plan[0, :rows, :columns], wanted, rtol=1e-10, atol=1e-14)
    assert not plan[0, rows:].any() and not plan[0, :, columns:].any() and not plan[1, : 6 - rows].any()
    torch.testing.assert_close(plan[0].sum(0)[:columns], torch.ones(columns, dtype=torch.float64))
    weights = torch.rand(rows, columns, dtype=torch.float64)
    (found,) = torch.autograd.grad((plan[0, :rows, :columns] * weights).sum(), cost, retain_graph=True)
    (right,) = torch.autograd.grad((wanted * weights).sum(), cost)
    torch.testing.assert_close(found, right, rtol=1e-8, atol=1e-12)


def test_the_distance_is_the_plans_cost() -> None:
    """Equal costs: every pair has 1 / T of a column, so S columns of cost 1 come to S. An empty side comes to 0."""
    first, second = torch.tensor([[[0.0], [0.0], [9.0]]]), torch.tensor([[[1.0], [1.0], [1.0], [1.0], [9.0]]])
    mask_T, mask_S = torch.tensor([[True, True, False]]), torch.tensor([[True] * 4 + [False]])
    distance = sinkhorn_distance(first, second, mask_T, mask_S, 0.1, 20)
    torch.testing.assert_close(distance, torch.tensor([4.0]))
    assert sinkhorn_distance(first, second, mask_T & False, mask_S, 0.1, 20).tolist() == [0.0]


def test_a_large_cost_in_every_place_of_a_row_does_not_underflow() -> None:
    """exp(-500 / 0.1) is 0 in any dtype; what is common to a row leaves its plan as it is."""
    cost = torch.tensor([[[500.0, 500.2], [0.3, 0.1]]])
    mask = torch.ones(1, 2, dtype=torch.bool)
    low = cost - torch.tensor([[[500.0], [0.0]]])
    torch.testing.assert_close(
        sinkhorn_plan(cost, mask, mask, 0.1, 20), sinkhorn_plan(low, mask, mask, 0.1, 20), rtol=1e-3, atol=1e-6
    )

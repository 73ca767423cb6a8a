"""row_losses: the weighted sum, each row's gradient at its position, and a budget of numbers."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from trainer.objectives.kernels.chunks import ON_CPU
from trainer.objectives.kernels.row_losses import row_losses

POSITION = torch.tensor([5, 0, 3, 1])


def squares(logits_nV: Tensor, chunk: slice) -> tuple[Tensor, Tensor]:
    """sum z^2, times the number of the row."""
    factor_n1 = torch.arange(chunk.start, chunk.stop, dtype=logits_nV.dtype)[:, None] + 1
    return (factor_n1 * logits_nV.square()).sum(-1), 2 * factor_n1 * logits_nV


@pytest.mark.parametrize(("rows", "sizes"), [(1, [1] * 4), (20, [2, 2]), (30, [3, 1]), (1 << 22, [4])])
def test_values_and_gradients(rows: int, sizes: list[int]) -> None:
    logits, asked = torch.arange(18, dtype=torch.float64).reshape(6, 3).requires_grad_(), list[int]()

    def counted(logits_nV: Tensor, chunk: slice) -> tuple[Tensor, Tensor]:
        asked.append(len(logits_nV))
        return squares(logits_nV, chunk)

    factor = torch.tensor([0.5, -1.0, 2.0, 3.0], dtype=torch.float64)
    found = row_losses(logits, POSITION, 10, counted, factor, chunks=replace(ON_CPU, rows=rows))
    assert asked == sizes
    wanted = factor @ (torch.arange(1, 5) * logits[POSITION].square().sum(-1))
    torch.testing.assert_close(found, wanted)
    (gradient,) = torch.autograd.grad(0.7 * found, logits)
    (right,) = torch.autograd.grad(0.7 * wanted, logits)
    torch.testing.assert_close(gradient, right)
    assert not gradient[[2, 4]].any()


@pytest.mark.parametrize(
    ("given", "computed"), [("bfloat16", "float32"), ("float32", "float32"), ("float64", "float64")]
)
def test_computed_in_float32_or_more(given: str, computed: str) -> None:
    logits = torch.ones(6, 3, dtype=getattr(torch, given)).requires_grad_()
    found = row_losses(logits, POSITION, 3, squares)
    assert found.dtype == getattr(torch, computed) and found.item() == 3 + 6 + 9 + 12
    (gradient,) = torch.autograd.grad(found, logits)
    assert gradient.dtype == logits.dtype and gradient[:, 0].tolist() == [4, 8, 0, 6, 0, 2]
    none = row_losses(logits, POSITION[:0], 3, squares)
    assert none.item() == 0 and none.dtype == found.dtype


def test_without_a_gradient_none_is_made() -> None:
    found = row_losses(torch.ones(6, 3), POSITION, 3, squares)
    assert found.item() == 3 + 6 + 9 + 12 and not found.requires_grad


def test_the_gradient_is_handed_over_once() -> None:
    total = row_losses(torch.ones(6, 3, requires_grad=True), POSITION, 3, squares)
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError) as refused:
        total.backward()
    assert str(refused.value) == "the gradient of this pass was handed over already; compute the loss again"

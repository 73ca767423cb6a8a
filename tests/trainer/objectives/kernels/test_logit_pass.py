"""A pass over logits: the three products of a linear layer, in the precision that autocast would take."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from schemas.models.logits import LogitTransform
from trainer.objectives.kernels.logit_pass import LogitPass, pass_over
from trainer.student.logits import Logits

X, D, V = 40, 24, 300
LABEL = torch.arange(X) % V


Parts = tuple[Tensor, Tensor, Tensor]  # states, head and bias, leaves that want a gradient


def made_of(dtype: torch.dtype, states: torch.dtype | None = None) -> Parts:
    """The same numbers in every dtype: those of bfloat16."""
    g = torch.Generator().manual_seed(0)
    hidden, weight, bias = (torch.randn(*shape, generator=g).bfloat16() for shape in ((X, D), (V, D), (V,)))
    return (
        hidden.to(states or dtype).requires_grad_(),
        weight.to(dtype).requires_grad_(),
        bias.to(dtype).requires_grad_(),
    )


def entropy(made: LogitPass) -> Sequence[Tensor]:
    """Cross-entropy of all rows, 7 at a time."""
    total = made.zero()
    for first in range(0, X, 7):
        rows = slice(first, min(X, first + 7))
        logits = made.rows(rows)
        total = total + F.cross_entropy(logits, LABEL[rows], reduction="sum")
        made.put(rows, logits, logits.softmax(-1) - F.one_hot(LABEL[rows], V))
    return (total,)


def usual(inputs: Sequence[Tensor]) -> Any:
    """The same by autograd."""
    return F.cross_entropy(
        F.linear(*inputs).to(torch.promote_types(inputs[0].dtype, torch.float32)), LABEL, reduction="sum"
    )


def test_in_float64_it_is_what_autograd_gives() -> None:
    inputs = made_of(torch.float64)
    (found,) = pass_over(Logits(*inputs), entropy, [1.0])
    torch.testing.assert_close(found, usual(inputs))
    for ours, theirs in zip(
        torch.autograd.grad(3 * found, inputs), torch.autograd.grad(3 * usual(inputs), inputs), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("states", [torch.bfloat16, torch.float32])
def test_products_in_bfloat16_err_no_more_than_autocast_does(states: torch.dtype) -> None:
    """Head and bias are float32, as autocast has them; gradients come in the dtype of what they are of."""
    inputs = made_of(torch.float32, states)
    exact = made_of(torch.float64)
    right = torch.autograd.grad(usual(exact), exact)
    (found,) = pass_over(Logits(*inputs, product=torch.bfloat16), entropy, [1.0])
    ours = torch.autograd.grad(found, inputs)
    with torch.autocast("cpu", torch.bfloat16):
        value = usual(inputs)
    theirs = torch.autograd.grad(value, inputs)
    for mine, other, truth, leaf in zip(ours, theirs, right, inputs, strict=True):
        assert mine.dtype == leaf.dtype
        assert (mine.double() - truth).norm() <= 1.05 * (other.double() - truth).norm()


def test_a_soft_cap_reads_the_logits_it_is_given_back() -> None:
    capped = LogitTransform(scale=0.5, softcap=2.0)
    hidden, weight, _ = made_of(torch.float64)
    made = LogitPass(Logits(hidden, weight, None, capped), (True, False, False))
    assert made.needs_logits and made.wants_gradient and not LogitPass(Logits(hidden, weight)).needs_logits
    logits = made.rows(torch.tensor([3, 1]))
    made.put(torch.tensor([3, 1]), logits, torch.ones_like(logits))
    (right,) = torch.autograd.grad(capped(F.linear(hidden[[3, 1]], weight)).sum(), hidden)
    of_hidden, of_weight, of_bias = made.gradients()
    assert of_weight is None and of_bias is None and of_hidden is not None
    torch.testing.assert_close(of_hidden, right)


def test_the_gradient_to_a_bias_is_summed_in_float32() -> None:
    """Of rows in bfloat16, which has 256 and 258, and nothing between them."""
    bias = torch.zeros(1, dtype=torch.bfloat16)
    made = LogitPass(Logits(bias[:, None].expand(257, 1), bias[:, None], bias), (False, False, True))
    made.put(slice(0, 257), torch.zeros(257, 1), torch.ones(257, 1, dtype=torch.bfloat16))
    assert made.of_bias_V is not None and made.of_bias_V.item() == 257


def test_without_a_head_rows_are_what_is_there() -> None:
    logits = torch.randn(4, 5, 7)
    made = LogitPass(Logits(logits))
    assert made.vocabulary == 7 and made.rows(slice(2, 4)).data_ptr() == logits.flatten(0, 1)[2:4].data_ptr()

"""Cosines, pooling and token weights at their edges: zero states, massless spans, single tokens, padding."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainer.objectives import naive
from tests.trainer.objectives.precision import gradient_of
from trainer.numerics.geometry import cosine_distance, geometry_sums, ratio, unit
from trainer.objectives.mta import token_weights


def test_a_zero_state_has_cosine_zero_and_gradient_zero() -> None:
    u = torch.tensor([[0.0, 0.0], [3.0, 4.0]], requires_grad=True)
    v = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    distance = cosine_distance(u, v)
    torch.testing.assert_close(distance.detach(), torch.tensor([1.0, 0.4]))
    distance.sum().backward()
    torch.testing.assert_close(u.grad, torch.tensor([[0.0, 0.0], [-0.128, 0.096]]))
    torch.testing.assert_close(unit(torch.tensor([1e-30, 0.0])), torch.zeros(2))


def test_geometry_of_identical_and_of_rotated_spans_agrees() -> None:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(2, 5, 4, generator=g, dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(4, 4, generator=g, dtype=torch.float64)).Q
    scale = torch.rand(2, 5, 1, generator=g, dtype=torch.float64) + 0.1
    weight = torch.rand(2, 5, generator=g, dtype=torch.float64)
    numerator, denominator = geometry_sums(scale * (x @ rotation), x, weight)
    assert numerator.max() < 1e-24
    pairs = weight.sum(1) ** 2 - weight.square().sum(1)
    torch.testing.assert_close(denominator, pairs)


def test_a_single_span_has_no_geometry() -> None:
    x = torch.randn(1, 1, 4, requires_grad=True)
    loss = ratio(*geometry_sums(x, torch.randn(1, 1, 3), torch.ones(1, 1))).sum()
    loss.backward()
    assert loss.item() == 0
    assert torch.count_nonzero(gradient_of(x)) == 0


def test_the_gradient_of_geometry_is_that_of_its_formula() -> None:
    g = torch.Generator().manual_seed(0)
    x, y = (torch.randn(2, 5, width, generator=g, dtype=torch.float64) for width in (4, 3))
    weight = torch.rand(2, 5, generator=g, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: geometry_sums(x, y, weight)[0], x.requires_grad_())


def test_ratio_of_nothing() -> None:
    numerator, denominator = torch.tensor([3.0, 0.0], requires_grad=True), torch.tensor([2.0, 0.0])
    value = ratio(numerator, denominator)
    value.sum().backward()
    assert value.tolist() == [1.5, 0.0]
    assert gradient_of(numerator).tolist() == [0.5, 0.0]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), lengths=st.lists(st.integers(1, 6), min_size=1, max_size=3), extra=st.integers(0, 3))
def test_token_weights(seed: int, lengths: list[int], extra: int) -> None:
    g = torch.Generator().manual_seed(seed)
    width = max(lengths) + extra
    mask = torch.arange(width) < torch.tensor(lengths)[:, None]
    hidden = 3 * torch.randn(len(lengths), width, 4, generator=g, dtype=torch.float64)
    found = token_weights(hidden, mask)
    wanted = torch.tensor([naive.token_weights(h, m) for h, m in zip(hidden, mask, strict=True)], dtype=torch.float64)
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found.sum(1), torch.ones(len(lengths), dtype=torch.float64))
    assert torch.count_nonzero(found[~mask]) == 0


def test_states_without_variance_attend_evenly() -> None:
    hidden = torch.tensor([[[2.0, 2.0], [0.0, 0.0], [-1.0, -1.0]]])
    torch.testing.assert_close(token_weights(hidden, torch.ones(1, 3, dtype=torch.bool)), torch.full((1, 3), 1 / 3))

"""Centres of mass against loops over the tokens of every span."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainer.objectives import naive
from trainer.numerics.span_pooling import centres_of_mass, membership, span_mass, within_span, without_leading


def test_shares_by_mass_or_even_where_there_is_none() -> None:
    labels = torch.tensor([[0, 0, 1, 1, -1, 2, 3]])
    member = membership(labels, torch.tensor([[True, True, True, False]]))
    weight = torch.tensor([[0.1, 0.3, 0.0, 0.0, 0.5, 0.1, 0.4]])
    assert member.inside_BX.tolist() == [[True, True, True, True, False, True, False]]
    torch.testing.assert_close(span_mass(member, weight), torch.tensor([[0.4, 0.0, 0.1, 0.0]]))
    torch.testing.assert_close(within_span(member, weight), torch.tensor([[0.25, 0.75, 0.5, 0.5, 0.0, 1.0, 0.0]]))
    # The smallest number there is, and sums of it: an even share, not inf or NaN.
    denormal = torch.full_like(weight, 1e-45)
    torch.testing.assert_close(within_span(member, denormal), torch.tensor([[0.5, 0.5, 0.5, 0.5, 0.0, 1.0, 0.0]]))


def test_leading_tokens_lose_their_mass_on_either_side_of_padding() -> None:
    mass = torch.tensor([[0.4, 0.3, 0.2, 0.1, 0.0], [0.0, 0.0, 0.5, 0.3, 0.2]])
    mask = torch.tensor([[True, True, True, True, False], [False, False, True, True, True]])
    wanted = torch.tensor([[0.0, 0.0, 0.2, 0.1, 0.0], [0.0, 0.0, 0.0, 0.0, 0.2]])
    assert torch.equal(without_leading(mass, mask, 2), wanted)
    assert without_leading(mass, mask, 0) is mass


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), samples=st.integers(1, 3), tokens=st.integers(1, 7), spans=st.integers(1, 4))
def test_centres_of_mass(seed: int, samples: int, tokens: int, spans: int) -> None:
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(-1, spans, (samples, tokens), generator=g)
    mask = torch.stack([(labels == k).any(1) for k in range(spans)], 1)
    weight = torch.rand(samples, tokens, generator=g, dtype=torch.float64) * torch.randint(
        0, 2, (samples, tokens), generator=g
    )
    hidden = torch.randn(samples, tokens, 3, generator=g, dtype=torch.float64)
    member = membership(labels, mask)
    share = within_span(member, weight)
    found = centres_of_mass(member, share, hidden)
    assert torch.autograd.gradcheck(lambda h: centres_of_mass(member, share, h), hidden.clone().requires_grad_())
    for b in range(samples):
        for k in range(spans):
            members = naive.tokens_of(labels[b], k)
            wanted = naive.centre(hidden[b], weight[b], members) if members else torch.zeros(3, dtype=torch.float64)
            torch.testing.assert_close(found[b, k], wanted)

"""Chosen rows of attention, against a softmax in float64 that knows nothing of groups, blocks or masks of a shape."""

from typing import Any

import pytest
import torch

from schemas.models.attention_rows import Scores, Weights

B, H, G, T, D = 2, 4, 2, 5, 3
MASK_BT = torch.tensor([[True, True, True, True, False], [True, True, True, True, True]])
ROWS_BR = torch.tensor([[3, 0], [4, 2]])


def naive(query: torch.Tensor, key: torch.Tensor, allowed: torch.Tensor, bias: torch.Tensor, scaling: float) -> Any:
    scores = scaling * torch.einsum("bhqd,bhkd->bhqk", query.double(), key.double().repeat_interleave(H // G, 1)) + bias
    return scores.masked_fill(~allowed, -torch.inf).softmax(-1)


@pytest.mark.parametrize("form", ["causal", "window", "additive"])
def test_rows_are_those_of_the_whole_softmax(form: str) -> None:
    torch.manual_seed(0)
    query, key, bias = torch.randn(B, H, T, D), torch.randn(B, G, T, D), torch.randn(1, H, T, T)
    tril = torch.ones(T, T, dtype=torch.bool).tril()
    window = tril & ~tril.tril(-2)
    masks = {"causal": None, "window": window[None, None], "additive": torch.zeros(1, 1, T, T).masked_fill(~tril, -1e9)}
    scores = Scores(query, key, masks[form], bias, 0.7, form == "causal")
    assert scores.shape_HTT == (H, T, T)
    allowed = (window if form == "window" else tril) & MASK_BT[:, None, None]
    whole = naive(query, key, allowed, bias, 0.7)
    found = scores.rows(ROWS_BR, MASK_BT)
    for b in range(B):
        torch.testing.assert_close(found[b].double(), whole[b][:, ROWS_BR[b]], atol=1e-6, rtol=0)
    assert not found[0, :, :, 4].any()  # padding


def test_weights_that_lie_ready_are_taken_as_they_are() -> None:
    weights = torch.rand(B, H, T, T).bfloat16()
    found = Weights(weights).rows(ROWS_BR, MASK_BT)
    assert found.dtype == torch.float32 and Weights(weights).shape_HTT == (H, T, T)
    for b in range(B):
        wanted = weights[b][:, ROWS_BR[b]].float() * MASK_BT[b]
        assert torch.equal(found[b], wanted)

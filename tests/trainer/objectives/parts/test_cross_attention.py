"""Cross-model attention against plain loops in float64, and its parts by hand."""

import math
import statistics

import pytest
import torch
from torch import Tensor

from schemas.configs.losses.dskd import Projectors
from trainer.objectives.parts.cross_attention import (
    CrossModelAttention,
    attend,
    following,
    index_embeddings,
    over_deviation,
    projector,
)


def randn(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))


def test_a_token_is_seen_with_the_one_behind_it() -> None:
    values = torch.tensor([[[1.0], [2.0], [3.0]]])
    assert following(values).flatten().tolist() == [2, 3, 1]
    assert index_embeddings(values).tolist() == [[[1, 2], [2, 3], [3, 1]]]


def test_the_deviation_is_of_a_samples_own_numbers() -> None:
    x, mask = randn(2, 4, 3), torch.tensor([[True, True, False, True], [False, False, True, False]])
    found = over_deviation(x, mask)
    for b in range(2):
        numbers = [float(v) for t in range(4) if mask[b, t] for v in x[b, t]]
        for t in range(4):
            wanted = x[b, t] / statistics.stdev(numbers) if mask[b, t] else torch.zeros(3, dtype=torch.float64)
            torch.testing.assert_close(found[b, t], wanted)
    constant = torch.ones(1, 2, 2, requires_grad=True)
    flat = over_deviation(constant, torch.ones(1, 2, dtype=torch.bool))
    assert not flat.any()
    (gradient,) = torch.autograd.grad(flat.sum(), constant)
    assert gradient.isfinite().all()


def test_attention_is_among_the_marked_and_nothing_where_there_are_none() -> None:
    score, mask = randn(2, 3, 4), torch.tensor([[True, False, True, True], [False] * 4])
    found = attend(score, mask)
    for x in range(3):
        shares = [math.exp(score[0, x, y]) if mask[0, y] else 0.0 for y in range(4)]
        assert found[0, x].tolist() == pytest.approx([share / sum(shares) for share in shares])
    assert not found[1].any()


def test_scores_are_the_equations() -> None:
    torch.manual_seed(0)
    attention = CrossModelAttention(2, 3, Projectors()).double()
    student, teacher, mask = randn(1, 4, 2), randn(1, 5, 3), torch.tensor([[True, True, True, True, False]])
    found = attention(student, teacher, mask).detach()
    weights, biases = attention.query.weight.tolist(), attention.query.bias.tolist()
    keys = [torch.cat([teacher[0, t], teacher[0, t + 1]]) for t in range(4)]
    deviation = statistics.stdev([float(v) for key in keys for v in key])
    for s in range(3):
        pair = torch.cat([student[0, s], student[0, s + 1]])
        query = [
            sum(w * float(v) for w, v in zip(row, pair, strict=True)) + b
            for row, b in zip(weights, biases, strict=True)
        ]
        for t, key in enumerate(keys):
            wanted = sum(q * k / deviation for q, k in zip(query, key, strict=True)) / math.sqrt(6)
            assert float(found[0, s, t]) == pytest.approx(float(wanted), rel=1e-9)


@pytest.mark.parametrize("init", ["linear", "orthogonal", "xavier"])
@pytest.mark.parametrize("bias", [True, False])
def test_how_a_projector_starts(init: str, bias: bool) -> None:
    torch.manual_seed(1)
    layer = projector(50, 30, Projectors.model_validate({"init": init, "bias": bias}))
    assert layer.weight.shape == (30, 50) and layer.weight.dtype == torch.float32 and (layer.bias is not None) == bias
    weight = layer.weight.detach()
    bounds = {"linear": 50**-0.5, "xavier": (6 / 80) ** 0.5}
    if init == "orthogonal":
        torch.testing.assert_close(weight @ weight.T, torch.eye(30), atol=1e-5, rtol=0)
    else:
        assert 0.98 * bounds[init] < float(weight.abs().max()) <= bounds[init]
    if bias:
        assert bool(layer.bias.any()) == (init == "linear")

"""Projections: how they start, what they compute, and the group that learns them."""

import pytest
import torch
from torch import nn

from schemas.configs.losses.base import Projection
from trainer.objectives.parts.projection import project, projection_biases, projection_groups, projection_matrix

D_S, D_T = 40, 60


@pytest.mark.parametrize("init", ["orthogonal", "xavier", "linear", "small"])
def test_how_they_start(init: str) -> None:
    torch.manual_seed(0)
    matrix = projection_matrix(D_S, D_T, Projection.model_validate({"init": init})).detach()
    assert matrix.shape == (D_S, D_T) and matrix.dtype == torch.float32
    match init:
        case "orthogonal":  # its rows
            torch.testing.assert_close(matrix @ matrix.T, torch.eye(D_S), atol=1e-5, rtol=0)
        case "xavier":  # uniform within sqrt(6 / (d_S + d_T))
            bound = (6 / (D_S + D_T)) ** 0.5
            assert 0.98 * bound < float(matrix.abs().max()) <= bound
        case "linear":  # torch's: uniform within 1 / sqrt(d_S)
            assert 0.98 * D_S**-0.5 < float(matrix.abs().max()) <= D_S**-0.5
        case "small":
            assert float(matrix.std()) == pytest.approx(1e-3, rel=0.05) and abs(float(matrix.mean())) < 1e-4
    torch.manual_seed(0)
    assert torch.equal(projection_matrix(D_S, D_T, Projection.model_validate({"init": init})), matrix)


def test_biases_are_there_if_asked_for() -> None:
    assert len(projection_biases(["1", "2"], D_S, D_T, Projection())) == 0
    zero = projection_biases(["1", "2"], D_S, D_T, Projection(bias=True))
    assert list(zero) == ["1", "2"] and not any(bias.any() for bias in zero.values())
    torch.manual_seed(0)
    drawn = projection_biases(["1"], D_S, D_T, Projection(bias=True, init="linear"))["1"].detach()
    assert drawn.shape == (D_T,) and 0.9 * D_S**-0.5 < float(drawn.abs().max()) <= D_S**-0.5


def test_by_hand() -> None:
    hidden, matrix = torch.tensor([[[1.0, 2.0], [0.0, -1.0]]]), torch.tensor([[1.0, 0.0, 2.0], [0.0, 1.0, 3.0]])
    assert project(hidden, matrix, None).tolist() == [[[1, 2, 8], [0, -1, -3]]]
    assert project(hidden, matrix, torch.tensor([1.0, 0.0, -1.0])).tolist() == [[[2, 2, 7], [1, -1, -4]]]


def test_their_group_has_their_own_rate() -> None:
    parameter = nn.Parameter(torch.zeros(1))
    config = Projection(lr=0.02, weight_decay=0.01)
    assert projection_groups([parameter], config) == [{"params": [parameter], "lr": 0.02, "weight_decay": 0.01}]
    assert projection_groups([], config) == []

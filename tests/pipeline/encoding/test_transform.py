"""The transform and its metric against their definitions in float64."""

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.encoding.head import Head
from pipeline.encoding.transform import fisher_metric, karhunen_loeve
from schemas.models.logits import LogitTransform


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape)).float()


def states(number: int) -> Tensor:
    return draw(number, 6) @ draw(6, 6, seed=1) + 5


def metric() -> Tensor:
    root = draw(6, 6, seed=2)
    return root @ root.T + 0.1 * torch.eye(6)


@pytest.mark.parametrize("metric_dd", [None, metric()])
def test_components_are_uncorrelated_descend_and_measure_errors(metric_dd: Tensor | None) -> None:
    x = states(500)
    found = karhunen_loeve(x, metric_dd)
    torch.testing.assert_close(found.encoder_dk @ found.decoder_kd, torch.eye(6), rtol=0, atol=1e-4)
    y = (x - found.mean_d) @ found.encoder_dk
    moment = (y.T @ y / len(y)).double()
    variances = moment.diagonal()
    assert (variances.diff() <= 0).all()
    assert float((moment - variances.diag()).abs().max()) < 1e-4 * float(variances[0])
    error = draw(10, 6, seed=3)
    wanted = ((error @ (torch.eye(6) if metric_dd is None else metric_dd)) * error).sum(1)
    torch.testing.assert_close((error @ found.encoder_dk).square().sum(1), wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("transform", [LogitTransform(), LogitTransform(scale=0.5), LogitTransform(2.0, softcap=3.0)])
def test_the_fisher_metric_is_the_hessian_of_the_kl_divergence(transform: LogitTransform) -> None:
    weight, bias, x = draw(11, 6, seed=4), draw(11, seed=5), states(3) / 5

    def divergence(error: Tensor, row: Tensor) -> Tensor:
        log_p, log_q = (
            transform(state @ weight.double().T + bias.double()).log_softmax(-1) for state in (row, row + error)
        )
        return (log_p.exp() * (log_p - log_q)).sum()

    hessians = [
        torch.autograd.functional.hessian(lambda e, row=row: divergence(e, row), torch.zeros(6, dtype=torch.float64))
        for row in x.double()
    ]
    wanted = torch.stack(hessians).mean(0)
    found = fisher_metric(x, Head(weight, bias, transform), identity=0.0)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-3, atol=1e-4)
    mixed = fisher_metric(x, Head(weight, bias, transform), identity=0.1)
    torch.testing.assert_close(mixed - found, 0.1 * found.diagonal().mean() * torch.eye(6))

"""Divergences of a few events, by numbers worked out event by event, and their pulls against autograd."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from schemas.configs.losses.kd import KDConfig
from trainer.objectives.kernels.divergences import choose_divergence, total_variation

P, Q = [0.5, 0.3, 0.15, 0.05], [0.1, 0.2, 0.3, 0.4]


def kl(a: list[float], b: list[float]) -> float:
    return sum(x * math.log(x / y) for x, y in zip(a, b, strict=True))


def mixed(share: float) -> list[float]:
    """Of P, the rest being of Q."""
    return [share * x + (1 - share) * y for x, y in zip(P, Q, strict=True)]


# |p - q| of the events that hold 0.6 of p, the first two, and of the others: 0.4 + 0.1, 0.15 + 0.35.
SETTINGS: dict[str, tuple[dict[str, Any], float]] = {
    "forward_kl": ({}, kl(P, Q)),
    "reverse_kl": ({}, kl(Q, P)),
    "js": ({"beta": 0.3}, 0.3 * kl(P, mixed(0.3)) + 0.7 * kl(Q, mixed(0.3))),
    "total_variation": ({}, 0.5),
    "skew_forward_kl": ({"skew": 0.2}, kl(P, mixed(0.2))),
    "skew_reverse_kl": ({"skew": 0.2}, kl(Q, mixed(0.8))),
    "adaptive_kl": ({"head": 0.6}, 0.5 * kl(P, Q) + 0.5 * kl(Q, P)),
}


def logs(*rows: list[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64).log()


@pytest.mark.parametrize("name", SETTINGS)
def test_value(name: str) -> None:
    options, wanted = SETTINGS[name]
    divergence = choose_divergence(KDConfig(divergence=name, **options))
    values, pulls = divergence(logs(P, Q), logs(Q, Q))
    assert values.tolist() == pytest.approx([wanted, 0], abs=1e-12) and pulls.shape == (2, 4)


@pytest.mark.parametrize("name", SETTINGS)
def test_the_gradient_to_logits_follows_from_the_pull(name: str) -> None:
    options, _ = SETTINGS[name]
    divergence = choose_divergence(KDConfig(divergence=name, **options))
    logits = logs(Q).add(1.5).requires_grad_()
    log_q = logits.log_softmax(-1)
    value, pull = divergence(logs(P), log_q)
    (right,) = torch.autograd.grad(value.sum(), logits)
    torch.testing.assert_close((pull - log_q.exp() * pull.sum(-1, keepdim=True)).detach(), right)


def test_a_detached_mixture_is_a_constant() -> None:
    config = KDConfig(divergence="skew_reverse_kl", skew=0.2, mixture="detached")
    logits = logs(Q).requires_grad_()
    log_q = logits.log_softmax(-1)
    log_m = torch.logaddexp(logs(P) + math.log(0.8), log_q.detach() + math.log(0.2))
    wanted = (log_q.exp() * (log_q - log_m)).sum()
    value, pull = choose_divergence(config)(logs(P), log_q.detach())
    (right,) = torch.autograd.grad(wanted, logits)
    torch.testing.assert_close(value.sum(), wanted.detach())
    torch.testing.assert_close(pull - log_q.detach().exp() * pull.sum(-1, keepdim=True), right)


@pytest.mark.parametrize(("head", "members"), [(0.5, 1), (0.51, 2), (0.8, 2), (0.85, 3), (0.99, 4)])
def test_the_head_is_what_first_holds_its_share(head: float, members: int) -> None:
    """Whatever the order of the events, the event that reaches the share included."""
    gaps = [abs(x - y) for x, y in zip(P, Q, strict=True)]
    share = sum(gaps[:members]) / sum(gaps)
    order = [2, 0, 3, 1]
    values, _ = choose_divergence(KDConfig(divergence="adaptive_kl", head=head))(
        logs([P[place] for place in order]), logs([Q[place] for place in order])
    )
    assert values.item() == pytest.approx(share * kl(P, Q) + (1 - share) * kl(Q, P))


def test_where_both_agree_adaptive_kl_takes_half_of_each() -> None:
    value, pull = choose_divergence(KDConfig(divergence="adaptive_kl"))(logs(P), logs(P))
    assert value.item() == 0
    torch.testing.assert_close(pull, -0.5 * logs(P).exp())


def test_where_both_agree_total_variation_pulls_nowhere() -> None:
    _, pull = total_variation(logs([0.25, 0.25, 0.5]), logs([0.25, 0.5, 0.25]))
    torch.testing.assert_close(pull, torch.tensor([[0, 0.25, -0.125]], dtype=torch.float64))

"""Divergences between two distributions over the same events, as small functions of their logarithms.

Each gives the value of every row and its *pull*, q dD/dq, by which every gradient follows: to the logits of q it is
pull - q sum(pull). Multiples of q in the pull cancel there and are left out. Events may be all tokens, or a few of them
and the rest as one. Logarithms are finite: an impossible event has a very low one.

Shapes: n rows, E events. p is the teacher's distribution, q the student's.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from schemas.configs.losses.kd import KDConfig

Divergence = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]  # log p, log q [n, E] -> values [n], pull [n, E]


def forward_kl(log_p_nE: Tensor, log_q_nE: Tensor) -> tuple[Tensor, Tensor]:
    """KL(p || q) = sum p log(p / q)."""
    p_nE = log_p_nE.exp()
    return (p_nE * (log_p_nE - log_q_nE)).sum(-1), -p_nE


def reverse_kl(log_p_nE: Tensor, log_q_nE: Tensor) -> tuple[Tensor, Tensor]:
    """KL(q || p) = sum q log(q / p)."""
    pull_nE = log_q_nE.exp() * (log_q_nE - log_p_nE)
    return pull_nE.sum(-1), pull_nE


def jensen_shannon(log_p_nE: Tensor, log_q_nE: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """beta KL(p || m) + (1 - beta) KL(q || m), m = beta p + (1 - beta) q (generalised JS, arXiv 2306.13649, eq. 1).

    Divided by beta it tends to KL(p || q) as beta goes to 0; divided by 1 - beta, to KL(q || p) as beta goes to 1.
    """
    log_m_nE = _mixture(log_p_nE, log_q_nE, beta)
    of_p_nE = log_p_nE.exp() * (log_p_nE - log_m_nE)
    of_q_nE = log_q_nE.exp() * (log_q_nE - log_m_nE)
    return beta * of_p_nE.sum(-1) + (1 - beta) * of_q_nE.sum(-1), (1 - beta) * of_q_nE


def total_variation(log_p_nE: Tensor, log_q_nE: Tensor) -> tuple[Tensor, Tensor]:
    """sum |p - q| / 2; where p = q, the pull is 0."""
    q_nE = log_q_nE.exp()
    difference_nE = q_nE - log_p_nE.exp()
    return difference_nE.abs().sum(-1) / 2, q_nE * difference_nE.sign() / 2


def skew_forward_kl(log_p_nE: Tensor, log_q_nE: Tensor, skew: float) -> tuple[Tensor, Tensor]:
    """KL(p || m), m = skew p + (1 - skew) q (DistiLLM, arXiv 2402.03898, eq. 4)."""
    log_m_nE = _mixture(log_p_nE, log_q_nE, skew)
    p_nE = log_p_nE.exp()
    return (p_nE * (log_p_nE - log_m_nE)).sum(-1), -(1 - skew) * p_nE * (log_q_nE - log_m_nE).exp()


def skew_reverse_kl(log_p_nE: Tensor, log_q_nE: Tensor, skew: float, detached: bool = False) -> tuple[Tensor, Tensor]:
    """KL(q || m), m = (1 - skew) p + skew q (DistiLLM, arXiv 2402.03898, eq. 5); a `detached` m is a constant."""
    log_m_nE = _mixture(log_p_nE, log_q_nE, 1 - skew)
    q_nE, log_ratio_nE = log_q_nE.exp(), log_q_nE - log_m_nE
    of_m_nE = 0.0 if detached else skew * log_ratio_nE.exp()
    return (q_nE * log_ratio_nE).sum(-1), q_nE * (log_ratio_nE - of_m_nE)


def adaptive_kl(log_p_nE: Tensor, log_q_nE: Tensor, head: float) -> tuple[Tensor, Tensor]:
    """(g_head KL(p || q) + g_tail KL(q || p)) / (g_head + g_tail), g = sum |p - q| over the likeliest events that hold
    `head` of p, and over the others (AKL, arXiv 2404.02657, section 4.2). The weights are constants to the gradient.
    """
    p_nE = log_p_nE.exp()
    sorted_nE, order_nE = p_nE.sort(dim=-1, descending=True, stable=True)
    before_nE = sorted_nE.cumsum(-1) - sorted_nE
    in_head_nE = torch.zeros_like(p_nE).scatter_(-1, order_nE, (before_nE < head).to(p_nE.dtype))
    gap_nE = (p_nE - log_q_nE.exp()).abs()
    of_head_n1 = (gap_nE * in_head_nE).sum(-1, keepdim=True)
    whole_n1 = gap_nE.sum(-1, keepdim=True)
    share_n1 = torch.where(whole_n1 > 0, of_head_n1 / whole_n1.clamp_min(torch.finfo(p_nE.dtype).tiny), 0.5)
    forward_n, forward_pull_nE = forward_kl(log_p_nE, log_q_nE)
    reverse_n, reverse_pull_nE = reverse_kl(log_p_nE, log_q_nE)
    share_n = share_n1.squeeze(-1)
    return (
        share_n * forward_n + (1 - share_n) * reverse_n,
        share_n1 * forward_pull_nE + (1 - share_n1) * reverse_pull_nE,
    )


def choose_divergence(config: KDConfig) -> Divergence:
    """The divergence of `config`, with its option bound."""
    match config.divergence:
        case "forward_kl":
            return forward_kl
        case "reverse_kl":
            return reverse_kl
        case "js":
            return lambda log_p, log_q: jensen_shannon(log_p, log_q, config.beta)
        case "total_variation":
            return total_variation
        case "skew_forward_kl":
            return lambda log_p, log_q: skew_forward_kl(log_p, log_q, config.skew)
        case "skew_reverse_kl":
            return lambda log_p, log_q: skew_reverse_kl(log_p, log_q, config.skew, config.mixture == "detached")
        case "adaptive_kl":
            return lambda log_p, log_q: adaptive_kl(log_p, log_q, config.head)


def _mixture(log_p_nE: Tensor, log_q_nE: Tensor, share: float) -> Tensor:
    """log(share p + (1 - share) q)."""
    if share == 0:
        return log_q_nE
    if share == 1:
        return log_p_nE
    return torch.logaddexp(log_p_nE + math.log(share), log_q_nE + math.log1p(-share))

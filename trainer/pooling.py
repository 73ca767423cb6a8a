"""Spans from tokens: centres of mass as a matrix product of token membership and weighted states.

A product, rather than scattered additions, because it gives the same bits on every run, on a GPU too. Membership costs
B * K * X * 4 bytes, 4 MB at 16 samples of 256 tokens and spans, and is shared by all layers that are pooled.

Shapes: B samples, K spans, X tokens of either side, d width.
"""

import torch
from torch import Tensor


def membership(label_BX: Tensor, mask_BK: Tensor, dtype: torch.dtype) -> Tensor:
    """[B, K, X]: 1 where token x lies in span k and the span counts, else 0. Arguments as in `SpanSet`."""
    span_K1 = torch.arange(mask_BK.shape[1], device=mask_BK.device)[:, None]
    return ((label_BX[:, None, :] == span_K1) & mask_BK[:, :, None]).to(dtype)


def span_mass(member_BKX: Tensor, weight_BX: Tensor) -> Tensor:
    """m_k = sum of w_x over the tokens of span k: [B, K]."""
    return (member_BKX @ weight_BX[:, :, None]).squeeze(-1)


def within_span(member_BKX: Tensor, weight_BX: Tensor) -> Tensor:
    """Each token's share of its span, w_x / m_k, [B, X]: 1 in sum over a span, 0 outside all spans.

    A span whose tokens have no weight at all (attention that underflowed, or leading tokens that were stripped of it)
    shares evenly: its centre of mass is the plain mean.
    """
    mass_BK, tokens_BK = span_mass(member_BKX, weight_BX), member_BKX.sum(-1)
    # Below the smallest normal number a quotient is no longer a share to rely on.
    massless_BK = (mass_BK < torch.finfo(mass_BK.dtype).tiny) & (tokens_BK > 0)
    # From spans back to their tokens: a product with zeros and a single one is exact. All three in one pass.
    per_span_BKn = torch.stack([mass_BK, tokens_BK, massless_BK.to(mass_BK.dtype)], -1)
    mass_BX, tokens_BX, massless_BX = (member_BKX.mT @ per_span_BKn).unbind(-1)
    even, inside = massless_BX > 0, tokens_BX > 0
    whole_BX = torch.where(inside, torch.where(even, tokens_BX, mass_BX), 1.0)
    return torch.where(inside, torch.where(even, 1.0, weight_BX) / whole_BX, 0.0)


def centres_of_mass(member_BKX: Tensor, share_BX: Tensor, hidden_BXd: Tensor) -> Tensor:
    """C_k = sum of (w_x / m_k) H_x over the tokens of span k, [B, K, d]; 0 for a span that does not count."""
    return member_BKX @ (share_BX[:, :, None] * hidden_BXd)


def without_leading(mass_BX: Tensor, mask_BX: Tensor, count: int) -> Tensor:
    """The masses with those of the first `count` tokens of each sample set to 0. Padding may be on either side."""
    if count == 0:
        return mass_BX
    return torch.where(mask_BX.cumsum(1) > count, mass_BX, 0.0)

"""Spans from tokens: centres of mass, as sums over the tokens of each span.

Tokens are put in the order of their spans once; a sum is then an embedding bag, which adds token by token in that
order, so it gives the same bits on every run, on a GPU too. As a token lies in one span at most, the gradient is looked
up, never added. Costs one pass over the states, whatever the number of spans.

Shapes: B samples, K spans, X tokens of either side, d width.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


@dataclass(frozen=True)
class Members:
    """Which tokens lie in which span of a batch. Made once, for all layers that are pooled."""

    shape: tuple[int, int]  # B, K
    inside_BX: Tensor  # bool: the token lies in a span that counts
    span_BX: Tensor  # long: b * K + k of a token inside, else 0
    order_X: Tensor  # long: all tokens of the batch by span, those outside last
    first_R: Tensor  # long: where each span's tokens begin in that order; then, where those outside do

    def sum(self, values_BXd: Tensor, share_BX: Tensor | None = None) -> Tensor:
        """The sum of a span's values, each times its token's share, if there are shares: [B, K, d]; 0 for a span that
        does not count. Its gradient goes to the values alone: shares are constants, and 0 outside all spans."""
        if share_BX is None:
            share_BX = self.inside_BX.to(values_BXd.dtype)
        total: Tensor = _SpanSum.apply(self, share_BX.detach(), values_BXd)
        return total

    def look_up(self, of_span_BKd: Tensor) -> Tensor:
        """Each token's value of its span, [B, X, d]; of a token outside, that of the batch's first."""
        return of_span_BKd.flatten(0, 1)[self.span_BX]


def membership(label_BX: Tensor, mask_BK: Tensor) -> Members:
    """Arguments as in `SpanSet`: which span a token belongs to, or -1; which spans count."""
    samples, spans = mask_BK.shape
    label_BX, labelled_BX = label_BX.clamp_min(0), label_BX >= 0
    inside_BX = labelled_BX & mask_BK.gather(1, label_BX)
    span_BX = label_BX + spans * torch.arange(samples, device=label_BX.device)[:, None]
    sorted_X, order_X = span_BX.masked_fill(~inside_BX, samples * spans).flatten().sort(stable=True)
    first_R = torch.searchsorted(sorted_X, torch.arange(samples * spans + 1, device=label_BX.device))
    return Members((samples, spans), inside_BX, span_BX.masked_fill(~inside_BX, 0), order_X, first_R)


def span_mass(members: Members, weight_BX: Tensor) -> Tensor:
    """m_k = sum of w_x over the tokens of span k: [B, K]."""
    return members.sum(weight_BX[:, :, None]).squeeze(-1)


def within_span(members: Members, weight_BX: Tensor, floor: float = 0.0) -> Tensor:
    """Each token's share of its span, w_x / m_k, [B, X]: 1 in sum over a span, 0 outside all spans.

    With a `floor`, w_x / max(m_k, floor): a span of less mass has shares of less than 1 in sum. Without one,
    a span whose tokens have no weight at all (attention that underflowed, or leading tokens that were stripped of it)
    shares evenly: its centre of mass is the plain mean.
    """
    per_span_BK2 = members.sum(torch.stack([weight_BX, torch.ones_like(weight_BX)], -1))
    mass_BX, tokens_BX = members.look_up(per_span_BK2).unbind(-1)
    if floor > 0:
        return torch.where(members.inside_BX, weight_BX / mass_BX.clamp_min(floor), 0.0)
    # Below the smallest normal number a quotient is not a share to rely on any more.
    even_BX = mass_BX < torch.finfo(mass_BX.dtype).tiny
    whole_BX = torch.where(members.inside_BX, torch.where(even_BX, tokens_BX, mass_BX), 1.0)
    return torch.where(members.inside_BX, torch.where(even_BX, 1.0, weight_BX) / whole_BX, 0.0)


def centres_of_mass(members: Members, share_BX: Tensor, hidden_BXd: Tensor) -> Tensor:
    """C_k = sum of (w_x / m_k) H_x over the tokens of span k, [B, K, d]; 0 for a span that does not count."""
    return members.sum(hidden_BXd, share_BX)


class _SpanSum(torch.autograd.Function):
    """[B, K, d] of values [B, X, d] and shares [B, X]. Differentiable in the values alone."""

    @staticmethod
    def forward(ctx: Any, members: Members, share_BX: Tensor, values_BXd: Tensor) -> Tensor:
        """Sums over the members of each span, [B, K, d]."""
        ctx.members = members
        ctx.save_for_backward(share_BX)
        bags_Rd = F.embedding_bag(
            members.order_X,
            values_BXd.flatten(0, 1),
            members.first_R,
            mode="sum",
            per_sample_weights=share_BX.flatten()[members.order_X],
        )
        return bags_Rd[:-1].view(*members.shape, -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream_BKd: Tensor) -> tuple[None, None, Tensor]:
        (share_BX,) = ctx.saved_tensors
        return None, None, ctx.members.look_up(upstream_BKd).mul_(share_BX[:, :, None])


def without_leading(mass_BX: Tensor, mask_BX: Tensor, count: int) -> Tensor:
    """The masses with those of the first `count` tokens of each sample set to 0. Padding may be on either side."""
    if count == 0:
        return mass_BX
    return torch.where(mask_BX.cumsum(1) > count, mass_BX, 0.0)

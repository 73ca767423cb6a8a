"""The attention weights of chosen query rows, from weights that lie ready or from queries and keys.

Shapes: B samples, T tokens, H heads, G key-value heads, R query rows, D width of a head.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Weights:
    """Attention weights that lie ready."""

    weights_BHTT: Tensor

    @property
    def device(self) -> torch.device:
        """Where the layer computes."""
        return self.weights_BHTT.device

    @property
    def shape_HTT(self) -> tuple[int, int, int]:
        """Heads, queries, keys."""
        _, heads, queries, keys = self.weights_BHTT.shape
        return heads, queries, keys

    def rows(self, rows_BR: Tensor, mask_BT: Tensor) -> Tensor:
        """The weights [B, H, R, T] of chosen query rows, 0 on padding."""
        return _take(self.weights_BHTT, rows_BR).float().masked_fill(~mask_BT[:, None, None], 0.0)


@dataclass(frozen=True)
class Scores:
    """What the attention weights of any query rows are computed from."""

    query_BHTD: Tensor
    key_BGTD: Tensor
    mask: Tensor | None  # [B or 1, H or 1, T, T], bool or additive
    bias: Tensor | None  # [B or 1, H or 1, T, T], additive
    scaling: float
    causal: bool

    @property
    def device(self) -> torch.device:
        """Where the layer computes."""
        return self.query_BHTD.device

    @property
    def shape_HTT(self) -> tuple[int, int, int]:
        """Heads, queries, keys."""
        return self.query_BHTD.shape[1], self.query_BHTD.shape[2], self.key_BGTD.shape[2]

    def rows(self, rows_BR: Tensor, mask_BT: Tensor) -> Tensor:
        """softmax(scaling * q K^T + bias) in float32, [B, H, R, T], for chosen query rows; padding counts as masked."""
        query_BHRD, key_BGTD = _take(self.query_BHTD, rows_BR).float() * self.scaling, self.key_BGTD.float()
        (B, H, R, D), (_, G, T, _) = query_BHRD.shape, key_BGTD.shape
        # Heads that share a key head are folded into its rows, so that grouped keys are never repeated.
        folded = query_BHRD.reshape(B, G, H // G * R, D) @ key_BGTD.transpose(2, 3)
        scores_BHRT = folded.reshape(B, H, R, T)
        allowed = mask_BT[:, None, None]
        if self.causal:
            allowed = allowed & (torch.arange(T, device=rows_BR.device) <= rows_BR[:, None, :, None])
        for extra in (self.mask, self.bias):
            if extra is not None:
                chosen = _take(extra.expand(B, -1, -1, -1), rows_BR)
                if chosen.dtype == torch.bool:
                    allowed = allowed & chosen
                else:
                    scores_BHRT = scores_BHRT + chosen
        return scores_BHRT.masked_fill_(~allowed, torch.finfo(torch.float32).min).softmax(-1)


def _take(values_BhTX: Tensor, rows_BR: Tensor) -> Tensor:
    """[B, h, R, X]: of each sample its own rows."""
    samples_B1 = torch.arange(rows_BR.shape[0], device=rows_BR.device)[:, None]
    return values_BhTX[samples_B1, :, rows_BR].transpose(1, 2)

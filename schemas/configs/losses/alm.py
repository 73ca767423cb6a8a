"""Approximate likelihood matching."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.bounds import Temperature
from schemas.configs.losses.base import WeightedLoss


class ALMConfig(WeightedLoss):
    """Approximate likelihood matching of aligned chunks, any two tokenizers (arXiv 2503.20083)."""

    loss: Literal["alm"] = "alm"
    temperature: Temperature = 100.0
    """tau: likelihoods are compared as p^(1/tau), and the loss is multiplied by tau."""
    divergence: Literal["kl", "reverse_kl", "tvd"] = "kl"
    """f of the binarised f-divergence: KL(teacher || student), its reverse, or total variation."""
    debias_threshold: Annotated[float | None, Field(ge=0, lt=1)] = 0.1
    """gamma: a chunk's likelihood includes that a word boundary follows, and chunks are merged until the teacher gives
    one more than this; 0 merges none, null compares plain chunks."""


LOSS = ALMConfig

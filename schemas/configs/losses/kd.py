"""Divergences between the token distributions of teacher and student, for one shared tokenizer."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from schemas.bounds import PartialShare, Temperature
from schemas.configs.losses.base import WeightedLoss

Divergence = Literal[
    "forward_kl", "reverse_kl", "js", "total_variation", "skew_forward_kl", "skew_reverse_kl", "adaptive_kl"
]
Logits = Literal["exact", "top_k", "sampled"]

# Which divergences each option belongs to.
OPTIONS: dict[str, tuple[Divergence, ...]] = {
    "skew": ("skew_forward_kl", "skew_reverse_kl"),
    "beta": ("js",),
    "head": ("adaptive_kl",),
    "mixture": ("skew_reverse_kl",),
}


class KDConfig(WeightedLoss):
    """A divergence of the student's from the teacher's next-token distribution, times tau^2, a mean over response
    tokens."""

    loss: Literal["kd"] = "kd"
    divergence: Divergence = "forward_kl"
    """p is the teacher's distribution, q the student's; forward_kl is KL(p || q)."""
    temperature: Temperature = 1.0
    """tau; the loss is multiplied by tau^2."""
    logits: Logits = "exact"
    """exact: from the cached final states. top_k: the stored likeliest tokens, and all others as one. sampled: stored
    draws, whose cross-entropy has forward KL's gradient without bias."""
    skew: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """How much of the other distribution is mixed in (DistiLLM: 0.1)."""
    beta: PartialShare = 0.5
    """js: beta KL(p || m) + (1 - beta) KL(q || m), m = beta p + (1 - beta) q."""
    head: PartialShare = 0.5
    """adaptive_kl: the likeliest tokens that hold this share of p are the head."""

    mixture: Literal["trained", "detached"] = "trained"
    """skew_reverse_kl: m learns too (DistiLLM), or is a constant (reference: jongwooko/distillm-2 @ fe4cf9b)."""

    @model_validator(mode="after")
    def _fits(self) -> "KDConfig":
        for option, divergences in OPTIONS.items():
            changed = getattr(self, option) != type(self).model_fields[option].default
            if changed and self.divergence not in divergences:
                raise ValueError(f"`{option}` belongs to {' and '.join(divergences)}, not to {self.divergence}")
        if self.logits == "sampled" and self.divergence != "forward_kl":
            raise ValueError(
                f"draws from the teacher estimate forward_kl alone without bias, not {self.divergence}; "
                "set logits: top_k or exact"
            )
        return self


LOSS = KDConfig

"""From the product of a state and the head to logits: the one formula, and the proof that a model follows it."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from schemas.errors import ModelError
from schemas.models.aligned_rows import head_product
from schemas.models.spread import at_hand


@dataclass(frozen=True)
class LogitTransform:
    """z = cap * tanh(scale * x / cap) of x = h W_U^T + b; z = scale * x without a soft-cap (Gemma 2, section 2)."""

    scale: float = 1.0
    softcap: float | None = None

    @classmethod
    def of(cls, text_config: Any) -> "LogitTransform":
        """The transform that a model's config names. `require_logits` proves that the model does nothing else."""
        scale = getattr(text_config, "logit_scale", None) or getattr(text_config, "lm_head_multiplier", None) or 1.0
        scaling = getattr(text_config, "logits_scaling", None) or 1.0
        # Granite divides by it, HyperCLOVA X multiplies.
        scale *= scaling if text_config.model_type.startswith("hyperclovax") else 1 / scaling
        softcap = getattr(text_config, "final_logit_softcapping", None) or getattr(text_config, "logits_soft_cap", None)
        return cls(scale, softcap)

    def __call__(self, product: Tensor) -> Tensor:
        """z of x, of any shape."""
        scaled = product if self.scale == 1.0 else product * self.scale
        return scaled if self.softcap is None else self.softcap * (scaled / self.softcap).tanh()

    def backward(self, gradient: Tensor, logits: Tensor) -> Tensor:
        """The gradient to x, given the gradient to z and z itself; all of one shape."""
        scaled = gradient if self.scale == 1.0 else gradient * self.scale
        return scaled if self.softcap is None else scaled * (1 - (logits / self.softcap).square())

    def of_states(self, hidden: Tensor, weight_Vd: Tensor, bias_V: Tensor | None) -> Tensor:
        """z in float32, [..., V], of states [..., d] in any dtype."""
        return self(linear(hidden.float(), weight_Vd.float(), None if bias_V is None else bias_V.float()))

    def tempered(self, hidden: Tensor, weight_Vd: Tensor, bias_V: Tensor | None, temperature: float) -> Tensor:
        """z / temperature in float32, [..., V], of a head in float32, which gets no gradient. States and bias are
        scaled instead of logits, which are many times as wide, so it rounds otherwise than `of_states`."""
        factor = self.scale / (temperature if self.softcap is None else self.softcap)
        product = linear if torch.is_grad_enabled() and hidden.requires_grad else head_product
        scaled = product(hidden.float() * factor, weight_Vd, None if bias_V is None else bias_V * factor)
        return scaled if self.softcap is None else scaled.tanh() * (self.softcap / temperature)


def find_head(model: Any) -> tuple[Tensor, Tensor | None]:
    """W_U [V, d] and the bias [V] or None. Raises ModelError if the model ends in anything but one linear layer."""
    head = model.get_output_embeddings()
    if not isinstance(head, nn.Linear):
        raise ModelError(
            f"{type(model).__name__} has no linear head, so its logits cannot be had from its final states; "
            "use a causal language model, or `kind: encoder`"
        )
    return at_hand(model, head, "weight"), at_hand(model, head, "bias")


@torch.no_grad()
def require_logits(
    model: Any, hidden_Td: Tensor, logits_TV: Tensor, transform: LogitTransform, tolerance: float, consequence: str
) -> None:
    """Prove that `logits_TV` are the model's head times its final states `hidden_Td`, transformed.

    `tolerance` is relative to the largest logit. Logits that are not finite pass: running names the sample. Raises
    ModelError with the deviation and its `consequence`.
    """
    wanted_TV, found_TV = logits_TV.float(), transform.of_states(hidden_Td, *find_head(model))
    deviation, size = (found_TV - wanted_TV).abs().max().item(), wanted_TV.abs().max().item()
    if deviation > tolerance * size:
        raise ModelError(
            f"the logits of {type(model).__name__} are not its head times its final states: they differ by up to "
            f"{deviation:.3g}, at logits of up to {size:.3g}. It transforms them in a way that is not known here, so "
            f"{consequence}"
        )

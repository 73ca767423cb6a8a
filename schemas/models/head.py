"""What a language model does to the product of its final state and its head before it calls the result logits."""

from typing import Any


def scale_and_softcap(text_config: Any) -> tuple[float, float | None]:
    """(scale, cap) of z = cap * tanh(scale * (h W_U^T + b) / cap), by the names that configs have for them; the cap is
    None where there is none. That they are all there is, an extraction checks of its teacher."""
    scale = getattr(text_config, "logit_scale", None) or getattr(text_config, "lm_head_multiplier", None) or 1.0
    scaling = getattr(text_config, "logits_scaling", None) or 1.0
    # Granite divides by it, HyperCLOVA X multiplies.
    scale *= scaling if text_config.model_type.startswith("hyperclovax") else 1 / scaling
    softcap = getattr(text_config, "final_logit_softcapping", None) or getattr(text_config, "logits_soft_cap", None)
    return scale, softcap

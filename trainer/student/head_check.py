"""Proof that a student's logits are its head's: losses put inner and projected states through that head."""

from typing import Any

import torch

from schemas.models.forward import forward_errors, unchanged
from schemas.models.logits import LogitTransform, require_logits

TOLERANCE = 1e-3  # of the largest logit
_CONSEQUENCE = "fdd and dskd, which put other states through that head, cannot be had of it; use kd, mta or sra"


@torch.no_grad()
def check_logits(model: Any, transform: LogitTransform) -> None:
    """The student's logits must be its head times its final states, transformed. It is left as it was found.

    Costs one pass over 8 tokens. Raises ModelError with the deviation.
    """
    ids_1S = torch.arange(8, device=model.device)[None] % model.get_input_embeddings().num_embeddings
    with unchanged(model), forward_errors(model, "over 8 tokens"):
        output = model(input_ids=ids_1S, use_cache=False, output_hidden_states=True)
        require_logits(model, output.hidden_states[-1][0], output.logits[0], transform, TOLERANCE, _CONSEQUENCE)

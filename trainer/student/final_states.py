"""Where a causal student's logits come from: its head, put to its final states, which is proven once for every model.

A model that does something else to its logits, in a way that is not known here, makes them itself, whole.
"""

import logging
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from schemas.errors import ModelError
from schemas.models.forward import forward_errors, unchanged
from schemas.models.logits import LogitTransform, find_head, require_logits
from trainer.student.logits import Logits

TOLERANCE = 1e-3  # of the largest logit
_CONSEQUENCE = "they are made as a whole: tokens * vocabulary numbers of memory, several times over"

logger = logging.getLogger(__name__)
_has_plain_head: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()

Call = Callable[..., Any]  # runs its first argument, a model or its body, with the others


def directly(run: Any, **given: Any) -> Any:
    """`run(**given)`: the way to run a model whose weights are at hand."""
    return run(**given)


def has_plain_head(model: Any) -> bool:
    """Whether the model's logits are its head times its final states, transformed as its config says; else a warning
    says that they are not, once. The first call costs a pass over 8 tokens; the model is left as it was found."""
    if model not in _has_plain_head:
        try:
            _prove(model)
            _has_plain_head[model] = True
        except ModelError as error:
            logger.warning("%s", error)
            _has_plain_head[model] = False
    return _has_plain_head[model]


@torch.inference_mode(False)
@torch.no_grad()
def _prove(model: Any) -> None:
    body = body_of(model)
    ids_1S = torch.arange(8, device=model.device)[None] % model.get_input_embeddings().num_embeddings
    off = torch.autocast(model.device.type, enabled=False)
    with off, unchanged(model), forward_errors(model, "over 8 tokens"):
        hidden_Td = body(input_ids=ids_1S, use_cache=False).last_hidden_state[0]
        logits_TV = model(input_ids=ids_1S, use_cache=False).logits[0]
        require_logits(model, hidden_Td, logits_TV, transform_of(model), TOLERANCE, _CONSEQUENCE)


def body_of(model: Any) -> Any:
    """The model without its head. Raises ModelError if it cannot be told from the whole."""
    body = getattr(model, "base_model", model)
    if body is model:
        raise ModelError(f"{type(model).__name__} has no body apart from its head, so {_CONSEQUENCE}")
    return body


def transform_of(model: Any) -> LogitTransform:
    """What the model's config does to the head's product."""
    return LogitTransform.of(model.config.get_text_config())


def logits_over(model: Any, tokens_BS: torch.Tensor) -> Logits:
    """One forward pass, for the logits alone."""
    if has_plain_head(model):
        return logits_of(model, body_of(model)(input_ids=tokens_BS, use_cache=False).last_hidden_state)
    return Logits(model(input_ids=tokens_BS, use_cache=False).logits)


def logits_of(model: Any, hidden_BSd: torch.Tensor) -> Logits:
    """The logits of final states, whose head multiplies in what autocast would."""
    device = hidden_BSd.device.type
    product = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    return Logits(hidden_BSd, *find_head(model), transform_of(model), product)

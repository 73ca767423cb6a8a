"""How long a text, and how many tokens, a model has been made for."""

from typing import Any

import torch
from torch import Tensor, nn

from schemas.errors import ModelError
from schemas.models.forward import forward_errors, unchanged
from schemas.models.spread import main_device

# What configs call the number of positions; transformers maps n_positions and its like to the first.
_NAMES = ("max_position_embeddings", "max_seq_len")


def usable_positions(model: Any) -> int | None:
    """How many tokens of one text the model has positions for; None if nothing says so.

    RoBERTa, XLM-R and MPNet count positions from behind padding: of 514 places in their table, 512 can be used.
    """
    config = model.config.get_text_config()
    limits = [getattr(config, name, None) for name in _NAMES]
    for module in model.modules():
        table = getattr(module, "position_embeddings", None)
        if isinstance(table, nn.Embedding) and table.padding_idx is not None:
            limits.append(table.num_embeddings - table.padding_idx - 1)
    return min((limit for limit in limits if isinstance(limit, int) and limit > 0), default=None)


def steady_positions(model: Any) -> int | None:
    """The longest text, in tokens, whose states depend on that text alone; None if there is no such limit.

    LongRoPE (Phi-3) changes its position encoding for a whole batch if one text in it is longer.
    """
    rope = getattr(model.config.get_text_config(), "rope_parameters", None) or {}
    short = [
        int(parameters["original_max_position_embeddings"])
        for parameters in (rope, *rope.values())
        if isinstance(parameters, dict) and parameters.get("rope_type") == "longrope"
    ]
    return min(short, default=None)


def require_positions(model: Any, tokens: int, setting: str, whose: str) -> None:
    """Raises ModelError if a text of `tokens` tokens, which `setting` allows, is longer than the model can take."""
    limit = usable_positions(model)
    if limit is not None and tokens > limit:
        raise ModelError(f"{setting} is {tokens}, but {whose} has only {limit} positions; set at most {limit}")


def known_tokens(model: Any) -> int:
    """Rows of the model's id table: token ids run from 0 to one less."""
    return int(model.get_input_embeddings().weight.shape[0])


def require_tokens(model: Any, highest: int, whose: str) -> None:
    """Raises ModelError if the id `highest`, which `whose` text or tokenizer has, is not in the model's id table."""
    if highest >= known_tokens(model):
        raise ModelError(
            f"{whose} has token {highest}, but {type(model).__name__} knows {known_tokens(model)}; "
            "give the tokenizer that it was trained with"
        )


def probe_ids(model: Any, tokens: int) -> Tensor:
    """`tokens` ids [T] on the model's device to try it with: low ones, because the highest may stand for images and the
    like; at a stride, so that neighbours differ; never the padding token, which some models give no position."""
    known = min(known_tokens(model), 1024)
    ids_T = (torch.arange(tokens, device=main_device(model)) * 37 + 11) % known
    padding = getattr(model.config.get_text_config(), "pad_token_id", None)
    return ids_T if padding is None else torch.where(ids_T == padding, (ids_T + 1) % known, ids_T)


@torch.no_grad()
def prove_positions(model: Any, tokens: int, setting: str) -> None:
    """One pass over a text of `tokens` tokens, without the head. The model is left as it was found.

    Raises ModelError with what the model's own code says: limits have many names, and the pass knows them all.
    """
    ids_1T = probe_ids(model, tokens)[None]
    with unchanged(model), forward_errors(model, f"over {tokens} tokens ({setting})"):
        (getattr(model, "base_model", None) or model)(input_ids=ids_1T, attention_mask=torch.ones_like(ids_1T))

"""A causal student over the tokens of a batch without its padding: only attention sees rows of one sample each.

All samples lie one after the other in one row, with position ids that begin anew at each. Whatever a model does token
by token (embeddings, projections, norms, experts) is done for real tokens alone. Its attention gets queries, keys and
values put back into rows of one sample each, so it needs no mask of blocks, and token masses are read as ever.
transformers' own packing keeps samples apart by a mask of the row's length squared, which costs SDPA its fast kernel.

A model may not follow: attention by a way of its own, positions or states that run along the row (convolutions,
recurrence). So each is tried once, at set-up.

Shapes: B samples, S tokens of the longest, N tokens of all.
"""

import logging
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from schemas.errors import ModelError
from schemas.models.forward import forward_errors, unchanged
from schemas.models.positions import probe_ids
from schemas.models.token_mass import sdpa_with_token_mass
from trainer.data.packing import Packing
from trainer.student.final_states import Call, body_of, directly, has_plain_head

LENGTHS = (7, 3, 5)  # of the texts that a model is tried with
TOLERANCE = 1e-4  # of the largest state

Attention = Callable[..., tuple[Tensor, None]]

logger = logging.getLogger(__name__)
_packing: ContextVar[Packing | None] = ContextVar("packing", default=None)


def run_packed(run: Any, tokens_BS: Tensor, packing: Packing, call: Call = directly, **options: Any) -> Any:
    """What `run`, a model or its body, puts out for the tokens [1, N] of a batch without its padding.

    Raises ModelError if it was not enabled: its texts would see each other.
    """
    if not _is_enabled(run):
        raise ModelError("packing was not enabled")
    token = _packing.set(packing)
    try:
        return call(
            run,
            input_ids=packing.pack(tokens_BS),
            position_ids=packing.position_N[None],
            use_cache=False,
            packing=packing,  # through all layers, also where one is computed again in the backward pass
            **options,
        )
    finally:
        _packing.reset(token)


def enable_packing(model: Any) -> None:
    """Switch `model` to attention that `run_packed` can use, and prove that it packs; otherwise it stays the same.

    Raises ModelError if its states are others when its texts are packed.
    """
    if _is_enabled(model):
        return
    before = model.config._attn_implementation
    if before not in _ATTENTIONS or not has_plain_head(model):
        raise ModelError(f"{type(model).__name__} cannot be packed: its attention or its head is one of its own")
    model.set_attn_implementation(_name(before))
    try:
        _prove(model)
    except ModelError:
        model.set_attn_implementation(before)
        raise


def _is_enabled(model: Any) -> bool:
    return model.config._attn_implementation in map(_name, _ATTENTIONS)


@torch.no_grad()
def _prove(model: Any) -> None:
    """Raises ModelError unless texts have the same states packed as in rows of their own."""
    body, width = body_of(model), max(LENGTHS)
    tokens_BS = probe_ids(model, len(LENGTHS) * width).view(len(LENGTHS), width)
    packing = Packing.of(LENGTHS, width).to(tokens_BS.device)
    with (
        torch.autocast(tokens_BS.device.type, enabled=False),
        unchanged(model),
        forward_errors(model, "over packed texts"),
    ):
        alone = packing.pack(body(input_ids=tokens_BS, use_cache=False).last_hidden_state)
        packed = run_packed(body, tokens_BS, packing).last_hidden_state
    if packed.shape != alone.shape or not (packed - alone).abs().max() <= TOLERANCE * alone.abs().max():
        raise ModelError(f"{type(model).__name__} cannot be packed: its texts see each other")


def _attention(plain: Attention) -> Attention:
    """`plain`, which sees rows of one sample each where it is given a packing."""

    def attend(
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        packing: Packing | None = None,
        **options: Any,
    ) -> tuple[Tensor, None]:
        """As transformers calls an attention function."""
        if packing is None:
            return plain(module, query, key, value, attention_mask, **options)
        query, key, value = map(packing.unpack_heads, (query, key, value))
        output_BSHD, _ = plain(module, query, key, value, attention_mask, **options)
        return packing.pack(output_BSHD), None

    uncompiled: Attention = torch.compiler.disable(attend)  # every batch has other rows
    return uncompiled


def _mask(local_size: int | None = None, use_vmap: bool = False, **options: Any) -> Tensor | None:
    """The mask of rows of one sample each, where texts are packed; None for all that is causal."""
    packing = _packing.get()
    if packing is None:
        mask: Tensor | None = sdpa_mask(local_size=local_size, use_vmap=use_vmap, **options)
        return mask
    if use_vmap:
        raise ModelError("it adds a mask of its own to causality")
    width = packing.token_BS.shape[1]
    if local_size is None or width < local_size:
        return None
    # What transformers asks at two tokens of the packed row says all but whether one of them is padding.
    token_BS = packing.token_BS
    first = token_BS.new_zeros(1)
    allowed: Tensor = options["mask_function"](first, first, token_BS[:, None, :, None], token_BS[:, None, None, :])
    return allowed & torch.ones(width, width, dtype=torch.bool, device=token_BS.device).tril()


_ATTENTIONS: dict[str, Attention] = {"sdpa": sdpa_attention_forward, "token_mass": sdpa_with_token_mass}


def _name(plain: str) -> str:
    return f"packed_{plain}"


for _plain, _forward in _ATTENTIONS.items():
    AttentionInterface.register(_name(_plain), _attention(_forward))
    AttentionMaskInterface.register(_name(_plain), _mask)

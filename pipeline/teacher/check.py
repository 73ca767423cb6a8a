"""Proof, before a teacher runs and again on its first batch, that what is stored is what the model computes.

Two short texts go through the teacher as a padded batch, on the path that extraction takes, and each alone through the
unchanged model with its own attention and mask. Any mistaken layer, attention that is not causal, states that depend on
padding or neighbours, or logits that are more than a linear head of the final state, shows here. Costs four short
forward passes. Of the first batch, one text's final states as they will lie on disk must give its logits: one more.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from schemas.cache.teacher import HeadRecord, TeacherRecord
from schemas.configs.extraction import TeacherConfig
from schemas.errors import ModelError
from schemas.models.logits import LogitTransform, require_logits

MAX_LENGTH = 16
CHECKED = 64  # tokens of the first batch
# Relative errors that a batch may bring in the compute dtype. A wrong layer or a leak is off by far more.
TOLERANCE = {"float32": 1e-3, "float16": 1e-2, "bfloat16": 5e-2}
NO_EXACT_LOGITS = "exact teacher logits cannot be had from its cache"

Forward = Callable[[Tensor, Tensor], dict[int, Tensor]]  # ids [B, T], mask [B, T] -> layer -> states [B, T, d]


@dataclass(frozen=True)
class Reference:
    """What the unchanged model says of one text alone."""

    ids_T: Tensor
    states: tuple[Tensor, ...]  # layer -> [T, d]
    logits_TV: Tensor | None  # None for an encoder


def run_alone(model: Any, record: TeacherRecord) -> list[Reference]:
    """Run the check's texts through `model`, still with the attention it was loaded with."""
    device = next(model.parameters()).device
    # Low ids, for the highest may stand for images and the like; a stride, so that tokens differ.
    longest = min(MAX_LENGTH, record.max_tokens)
    ids_T = (torch.arange(longest, device=device) * 37 + 11) % min(record.vocab_size, 1024)
    references = []
    for length in (longest, longest // 2):
        ids_1T = ids_T[None, :length]
        with torch.inference_mode():
            output = model(input_ids=ids_1T, attention_mask=torch.ones_like(ids_1T), output_hidden_states=True)
        states = tuple(state[0] for state in output.hidden_states)
        widths = sorted({state.shape[-1] for state in states})
        if len(states) != record.num_layers + 1 or widths != [record.hidden_size]:
            raise ModelError(
                f"{type(model).__name__} gives {len(states)} hidden states of widths {widths}; "
                f"{record.num_layers + 1} of width {record.hidden_size} are needed"
            )
        references.append(Reference(ids_1T[0], states, output.logits[0] if record.head is not None else None))
    return references


def check_states(forward: Forward, references: list[Reference], config: TeacherConfig) -> None:
    """Compare the states that `forward` collects from a padded batch with those of each text alone. Raises ModelError.

    The measure is the median over tokens of |a - b| / |b|, which one token's tie between two experts does not move.
    """
    ids_BT = nn.utils.rnn.pad_sequence([reference.ids_T for reference in references], batch_first=True)
    mask_BT = torch.stack([torch.arange(ids_BT.shape[1]) < len(reference.ids_T) for reference in references])
    for layer, state_BTd in forward(ids_BT, mask_BT.to(ids_BT.device)).items():
        for found_Td, reference in zip(state_BTd, references, strict=True):
            wanted_Td = reference.states[layer].float()
            difference_T = (found_Td[: len(wanted_Td)].float() - wanted_Td).norm(dim=-1)
            error = (difference_T / wanted_Td.norm(dim=-1)).median().item()
            if error > TOLERANCE[config.dtype]:  # not-a-number passes here: running will name the sample
                way_out = "for an encoder, set `kind: encoder`" if config.kind == "causal" else "it cannot be cached"
                raise ModelError(
                    f"layer {layer} of the teacher differs by {error:.1e} between a text alone and in a padded batch "
                    f"(allowed: {TOLERANCE[config.dtype]:.0e}): states depend on padding or on what follows; {way_out}"
                )


def check_head(model: Any, references: list[Reference], record: HeadRecord) -> None:
    """The saved head times the final states must be the model's own logits. Raises ModelError with the deviation."""
    transform = LogitTransform(record.scale, record.softcap)
    for reference in references:
        assert reference.logits_TV is not None
        tolerance = TOLERANCE[record.dtype]
        require_logits(model, reference.states[-1], reference.logits_TV, transform, tolerance, NO_EXACT_LOGITS)


def check_saved(model: Any, ids_T: Tensor, saved_Td: Tensor, record: HeadRecord) -> None:
    """The same of a text of the corpus, `saved_Td` being its final states in the dtype on disk. Raises ModelError.

    Of its first tokens only: no token sees what follows. Does nothing if the model's logits are not finite.
    """
    device = next(model.parameters()).device
    ids_T, saved_Td = ids_T[:CHECKED], saved_Td[:CHECKED].to(device)
    with torch.inference_mode():
        logits_TV = model(input_ids=ids_T[None].to(device), use_cache=False).logits[0]
    tolerance = max(TOLERANCE[record.dtype], TOLERANCE[str(saved_Td.dtype).removeprefix("torch.")])
    require_logits(model, saved_Td, logits_TV, LogitTransform(record.scale, record.softcap), tolerance, NO_EXACT_LOGITS)


def head_logits(hidden_Td: Tensor, weight_Vd: Tensor, bias_V: Tensor | None, record: HeadRecord) -> Tensor:
    """Logits in float32, [T, V]: what the trainer computes from the cache."""
    return LogitTransform(record.scale, record.softcap).of_states(hidden_Td, weight_Vd, bias_V)

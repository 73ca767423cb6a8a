"""Proof that what is stored is what the model computes for a text, alone.

Before a teacher runs, two short texts go through the unchanged model, with its own attention and mask, and through the
path that extraction takes, each alone and both as a padded batch; and one text of `max_tokens` tokens goes through that
path. Any mistaken layer, attention that is not causal, states that depend on padding or neighbours, logits that are
more than a linear head of the final state, or a text too long for the model, shows here. On its first batch of several
texts, the longest and the shortest are run once more, alone; and one text's final states as they will lie on disk must
give its logits. Where a model chooses experts, passes that are compared go to the same (`pipeline.teacher.experts`).
Costs max_tokens + 60 tokens of forward passes, and of the first batch three texts.

Shapes: B samples, T tokens, N rows, d hidden size, V vocabulary.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pipeline.teacher.experts import Choices, choosing, recorded
from pipeline.teacher.forward import TeacherForward
from schemas.cache.arrays import KINDS
from schemas.cache.teacher import HeadRecord, TeacherRecord
from schemas.errors import ModelError
from schemas.models.forward import forward_errors
from schemas.models.logits import LogitTransform, require_logits
from schemas.models.positions import probe_ids
from schemas.models.spread import main_device

MAX_LENGTH = 16
CHECKED = 64  # tokens of the first batch
# Relative errors that a batch may bring in a dtype. A wrong layer or a leak is off by far more.
TOLERANCE = {"float32": 1e-3, "float16": 1e-2, "bfloat16": 5e-2}
# Masses and distributions are exponentials of what is computed from states: they move by more. Those of Gemma 3 270M in
# bfloat16 are up to a tenth off the ones in float32.
SOFTMAX = 4.0
# Share of a text's rows that may be off by more: errors have a tail.
TIES = 1 / 8
NO_EXACT_LOGITS = "exact teacher logits cannot be had from its cache"

# Token ids of texts -> what each array holds of each text, [T, d], [T] or [1, d], in batch order; of attention maps
# [T, T * heads], with zeros for pairs that have no row.
Rows = Callable[[list[Tensor]], list[dict[str, Tensor]]]


@dataclass(frozen=True)
class Reference:
    """The unchanged model's states of one text alone."""

    ids_T: Tensor
    states: tuple[Tensor, ...]  # layer -> [T, d]
    logits_TV: Tensor | None  # None for an encoder
    choices: Choices  # of experts


def run_alone(model: Any, record: TeacherRecord) -> list[Reference]:
    """Run the check's texts through `model`, still with the attention it was loaded with."""
    longest = min(MAX_LENGTH, record.max_tokens)
    ids_T = probe_ids(model, longest)
    return [_reference(model, record, ids_T[:length]) for length in (longest, longest // 2)]


def _reference(model: Any, record: TeacherRecord, ids_T: Tensor) -> Reference:
    arguments = {"attention_mask": torch.ones_like(ids_T[None]), "output_hidden_states": True}
    with torch.inference_mode(), forward_errors(model, f"over {len(ids_T)} tokens"), recorded(1) as choices, choosing():
        output = model(input_ids=ids_T[None], **arguments)
    states = tuple(state[0] for state in output.hidden_states)
    shapes = {tuple(state.shape) for state in states}
    if len(states) != record.num_layers + 1 or shapes != {(len(ids_T), record.hidden_size)}:
        raise ModelError(
            f"{type(model).__name__} gives {len(states)} hidden states of the shapes {sorted(shapes)} for {len(ids_T)} "
            f"tokens; {record.num_layers + 1} of {(len(ids_T), record.hidden_size)} are needed"
        )
    return Reference(ids_T, states, output.logits[0] if record.head is not None else None, choices)


def check_layers(forward: TeacherForward, references: list[Reference], dtype: str) -> None:
    """The layers that `forward` collects of a text alone must be the model's own hidden_states. Raises ModelError."""
    name = type(forward.model).__name__
    for reference in references:
        ids_1T = reference.ids_T[None]
        with reference.choices.followed(0, TOLERANCE[dtype]):
            hidden, *_ = forward(ids_1T, torch.ones_like(ids_1T, dtype=torch.bool))
        for layer, state_1Td in hidden.items():
            if error := _differs(state_1Td[0], reference.states[layer], TOLERANCE[dtype]):
                raise ModelError(
                    f"layer {layer} of {name} is not its hidden_states[{layer}]: a relative error of {error:.1e} "
                    f"(allowed: {TOLERANCE[dtype]:.0e}). It counts its layers in another way; choose the layer 'last'"
                )


def check_batch(rows: Rows, forward: TeacherForward, references: list[Reference], dtype: str) -> None:
    """Prove that every array holds of a text in a padded batch what it holds of the text alone. Raises ModelError."""
    texts = [reference.ids_T for reference in references]
    with recorded(len(texts)) as choices:
        together = rows(texts)
    for number, found in enumerate(together):
        with choices.followed(number, TOLERANCE[dtype]):
            wanted = rows([texts[number]])[0]
        if problem := compare_rows(found, wanted, TOLERANCE[dtype]):
            raise ModelError(f"{problem}: {_reason(forward, texts[0], TOLERANCE[dtype])}")


def check_length(forward: TeacherForward) -> None:
    """A text of `max_tokens` tokens must pass. Raises ModelError with what the model's own code says."""
    ids_1T = probe_ids(forward.model, forward.record.max_tokens)[None]
    forward(ids_1T, torch.ones_like(ids_1T, dtype=torch.bool))


def compare_rows(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], tolerance: float) -> str | None:
    """Returns what differs between a text in a batch and the text alone, row by row; None if nothing does."""
    for path, wanted_Nx in wanted.items():
        kind = path.partition("/")[0]
        allowed = tolerance * (SOFTMAX if kind in KINDS and KINDS[kind].of_attention else 1)
        if error := _differs(found[path], wanted_Nx, allowed):
            return (
                f"{path} of the teacher differs by {error:.1e} between a text alone and in a padded batch (allowed: "
                f"{allowed:.0e})"
            )
    return None


def _differs(found_Nx: Tensor, wanted_Nx: Tensor, tolerance: float) -> float | None:
    """The median of |a - b| / |b| over the rows that are off by more than `tolerance`; None if these are few.

    Token masses, which are one number per row, are measured against their root mean square. Numbers that are not finite
    pass: running names their sample.
    """
    found, wanted = found_Nx.double(), wanted_Nx.double()
    if wanted.ndim == 1:
        error_N, size_N = (found - wanted).abs(), wanted.square().mean().sqrt().expand(len(wanted))
    else:
        error_N, size_N = (found - wanted).norm(dim=1), wanted.norm(dim=1)
    relative_N = error_N / size_N.clamp_min(torch.finfo(torch.float32).tiny)
    wrong_N = relative_N[relative_N > tolerance]
    return wrong_N.median().item() if len(wrong_N) > TIES * len(relative_N) else None


def _reason(forward: TeacherForward, ids_T: Tensor, tolerance: float) -> str:
    """Why a batch differs: a causal model that sees what follows, or else padding and neighbours."""
    last, half = forward.record.num_layers, len(ids_T) // 2
    ids_1T, mask_1T = ids_T[None], torch.ones_like(ids_T[None], dtype=torch.bool)
    with recorded(1) as choices:
        whole = forward(ids_1T, mask_1T)[0][last][0]
    with choices.followed(0, tolerance):
        begun = forward(ids_1T[:, :half], mask_1T[:, :half])[0][last][0]
    if forward.record.kind == "causal" and _differs(whole[:half], begun, tolerance):
        return "its tokens see what follows them; for an encoder, set `kind: encoder`"
    return "they depend on the padding or on the other texts of a batch, so it cannot be cached"


def check_head(model: Any, references: list[Reference], record: HeadRecord) -> None:
    """The saved head times the final states must be the model's own logits. Raises ModelError with the deviation."""
    transform = LogitTransform(record.scale, record.softcap)
    for reference in references:
        assert reference.logits_TV is not None
        tolerance = TOLERANCE[record.dtype]
        require_logits(model, reference.states[-1], reference.logits_TV, transform, tolerance, NO_EXACT_LOGITS)


def check_saved(model: Any, ids_T: Tensor, position_K: Tensor, saved_Kd: Tensor, record: HeadRecord) -> None:
    """The same of a text of the corpus, `saved_Kd` being its final states at some positions, ascending, in the dtype on
    disk. Raises ModelError.

    Of the first of them only: no token sees what follows. Does nothing if the model's logits are not finite.
    """
    device = main_device(model)
    position_K, saved_Kd = position_K[:CHECKED].to(device), saved_Kd[:CHECKED].to(device)
    ids_T = ids_T[: int(position_K[-1]) + 1]
    with torch.inference_mode(), forward_errors(model, f"over {len(ids_T)} tokens"), choosing():
        logits_KV = model(input_ids=ids_T[None].to(device), use_cache=False).logits[0][position_K]
    tolerance = max(TOLERANCE[record.dtype], TOLERANCE[str(saved_Kd.dtype).removeprefix("torch.")])
    require_logits(model, saved_Kd, logits_KV, LogitTransform(record.scale, record.softcap), tolerance, NO_EXACT_LOGITS)

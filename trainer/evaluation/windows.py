"""Windows of tokens over texts of any length, and what a causal model pays for the tokens that are scored in them.

Costs one forward pass, up to two for long texts, and [tokens, V] logits of one batch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from schemas.errors import ModelError, TokenizerError
from schemas.models.forward import forward_errors
from schemas.models.positions import require_positions, require_tokens


@dataclass(frozen=True)
class Window:
    """Tokens of one forward pass; those from `start` on are scored here, those before in an earlier window or never."""

    ids: list[int]
    start: int
    scored: list[bool] | None = None  # which of those from `start` on; None for all


def check_length(model: nn.Module, max_tokens: int) -> None:
    """Raises ModelError: the model has fewer positions than `max_tokens`, or these are too few for a window."""
    require_positions(model, max_tokens, "max_tokens", "the model")
    if max_tokens < 4:
        raise ModelError(f"max_tokens is {max_tokens}; a window needs at least 4: context, and something to score")


def require_fast(tokenizer: PreTrainedTokenizerBase) -> None:
    """Raises TokenizerError for a tokenizer that cannot say which characters a token covers."""
    if not tokenizer.is_fast:
        raise TokenizerError(
            f"{type(tokenizer).__name__} is a slow tokenizer: it cannot say which characters a token covers"
        )


def cut(
    prefix: list[int], body: list[int], first: int, max_tokens: int, wanted: list[bool] | None = None
) -> Iterator[Window]:
    """Windows over `body`, each opened by `prefix`; body[first:] is scored, each token in one window. Of these only the
    `wanted` ones are, if that is given; a window of none of them is left out."""
    size = max_tokens - len(prefix)
    stride = size // 2
    scored, begin = first, 0
    while scored < len(body):
        end = min(begin + size, len(body))
        if scored < end:
            marks = None if wanted is None else wanted[scored:end]
            if marks is None or any(marks):
                yield Window(prefix + body[begin:end], len(prefix) + scored - begin, marks)
            scored = end
        begin += stride


@torch.inference_mode()
def score(model: nn.Module, windows: Sequence[Window], device: torch.device | str, batch_tokens: int) -> float:
    """Summed negative log-likelihood in nats. The model is on `device` and left in the mode it came in."""
    was_training = model.training
    require_tokens(model, max(max(window.ids) for window in windows), "the model's tokenizer")
    try:
        return _score(model.eval(), windows, torch.device(device), batch_tokens)
    finally:
        model.train(was_training)


def _score(model: nn.Module, windows: Sequence[Window], device: torch.device, batch_tokens: int) -> float:
    total = 0.0
    for batch in _batches(windows, batch_tokens):
        longest = max(len(window.ids) for window in batch)
        # Padding is on the right and attention causal: what is real never sees it, whatever its id.
        tokens_BT = torch.tensor([window.ids + [0] * (longest - len(window.ids)) for window in batch], device=device)
        with forward_errors(model, f"over {longest} tokens"):
            logits_BTV = model(input_ids=tokens_BT, use_cache=False).logits
        for window, tokens_T, logits_TV in zip(batch, tokens_BT, logits_BTV, strict=True):
            predicted_NV, next_N = logits_TV[window.start - 1 : len(window.ids) - 1], tokens_T[window.start :]
            next_N = next_N[: len(predicted_NV)]
            if window.scored is not None:
                scored_N = torch.tensor(window.scored, device=device)
                predicted_NV, next_N = predicted_NV[scored_N], next_N[scored_N]
            total += _nats(predicted_NV, next_N)
    return total


def _nats(logits_TV: torch.Tensor, targets_T: torch.Tensor) -> float:
    nats_T = nn.functional.cross_entropy(logits_TV.float(), targets_T, reduction="none")
    return float(nats_T.double().sum())


def _batches(windows: Sequence[Window], batch_tokens: int) -> Iterator[list[Window]]:
    """Longest first, so that a batch pads little and a lack of memory shows at once."""
    batch: list[Window] = []
    for window in sorted(windows, key=lambda window: -len(window.ids)):
        if batch and len(batch[0].ids) * (len(batch) + 1) > batch_tokens:
            yield batch
            batch = []
        batch.append(window)
    if batch:
        yield batch

"""Windows of tokens over texts of any length, and what a causal model pays for the tokens that are scored in them.

Costs one forward pass, up to two for long texts; logits are made of the scored tokens alone, some at a time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from schemas.errors import ModelError, TokenizerError
from schemas.models.forward import forward_errors
from schemas.models.positions import require_positions, require_tokens
from trainer.objectives.kernels.logit_pass import LogitPass
from trainer.objectives.kernels.next_token import next_token_logprobs
from trainer.student.final_states import logits_over


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
            logits = LogitPass(logits_over(model, tokens_BT))
        for row, window in enumerate(batch):
            # Token x is predicted from the state at x - 1.
            predicted_N = row * longest + torch.arange(window.start - 1, len(window.ids) - 1, device=device)
            if window.scored is not None:
                predicted_N = predicted_N[torch.tensor(window.scored, device=device)]
            total += _nats(logits, predicted_N, tokens_BT.flatten()[predicted_N + 1])
    return total


def _nats(logits: LogitPass, predicted_N: torch.Tensor, next_N: torch.Tensor) -> float:
    logprob_N, _ = next_token_logprobs(lambda chunk: logits.rows(predicted_N[chunk]), next_N, None, logits.vocabulary)
    return -float(logprob_N.double().sum())


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

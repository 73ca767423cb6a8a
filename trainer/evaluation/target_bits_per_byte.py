"""Held-out bits per byte of conversations: how well a model predicts what assistants say in them.

Every model reads them in its own chat template, and all are scored on the same characters, so that models of different
templates and tokenizers compare. What is counted:

- Scored are the contents of the assistants' turns that are targets, without white space around them, which some
  templates trim. Bytes are those of these contents in UTF-8.
- A token is scored if it ends in one, as it is learnt. Words of the template, the end of a turn, reasoning and tool
  calls are context alone: they count neither in nats nor in bytes, because each template has others.
- The template spells out the special tokens; the tokenizer adds none. A beginning of sequence opens every window.
- Windows are those of `bits_per_byte`. What no scored token covers (a token that holds the last letter and a line end
  of the template) leaves the count of bytes.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from schemas.cache.targets import range_of
from schemas.errors import CorpusError
from schemas.models.tokenizer_run import run_tokenizer
from trainer.evaluation.held_out_conversations import HeldOutConversations, RenderedConversation
from trainer.evaluation.metrics.target_bits_per_byte import TargetBitsPerByte
from trainer.evaluation.windows import Window, check_length, cut, require_fast, score


@dataclass(frozen=True)
class _Encoded:
    """A conversation in a model's tokens. T tokens, R contents."""

    ids: list[int]
    scored_T: np.ndarray  # bool
    bytes: int  # that are scored
    unscored: int
    unknown: int


def evaluate_conversations(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    conversations: HeldOutConversations,
    max_tokens: int,
    device: torch.device | str = "cpu",
    batch_tokens: int = 4096,
) -> TargetBitsPerByte:
    """Score `conversations`. `batch_tokens` bounds a forward pass, padding counted, and changes no figure but in
    rounding.

    The model must be on `device`; it is left in the mode it came in. Raises ModelError if it has fewer than
    `max_tokens` positions; TokenizerError for a slow tokenizer or a template that renders nothing; CorpusError for a
    conversation that the template refuses, or if not one token can be scored.
    """
    check_length(model, max_tokens)
    rendered = list(conversations.render(tokenizer))
    encoded = list(_encode(tokenizer, [shown for shown in rendered if shown is not None]))
    windows: list[Window] = []
    for each in encoded:
        prefix = int(bool(each.ids) and each.ids[0] == tokenizer.bos_token_id)
        body, scored = each.ids[prefix:], each.scored_T[prefix:].tolist()
        windows += cut(each.ids[:prefix], body, 0 if prefix else 1, max_tokens, scored)
    tokens = sum(int(each.scored_T.sum()) for each in encoded)
    if not tokens:
        raise CorpusError("not one token of the held-out conversations can be scored: no assistant says anything")
    nats, size = score(model, windows, device, batch_tokens), sum(each.bytes for each in encoded)
    return TargetBitsPerByte(
        nats_per_token=nats / tokens,
        target_bits_per_byte=nats / math.log(2) / size,
        tokens=tokens,
        bytes=size,
        conversations=len(encoded),
        refused=conversations.misshapen + len(rendered) - len(encoded),
        unscored_bytes=sum(each.unscored for each in encoded),
        unknown_tokens=sum(each.unknown for each in encoded),
    )


def _encode(tokenizer: PreTrainedTokenizerBase, rendered: Sequence[RenderedConversation]) -> Iterator[_Encoded]:
    require_fast(tokenizer)
    if not rendered:
        return
    texts = [each.text for each in rendered]
    encoded = run_tokenizer(tokenizer, texts, add_special_tokens=False, return_offsets_mapping=True)
    for each, ids, offsets in zip(rendered, encoded["input_ids"], encoded["offset_mapping"], strict=True):
        yield _mark(tokenizer, each, ids, np.array(offsets, np.int64).reshape(-1, 2))


def _mark(
    tokenizer: PreTrainedTokenizerBase, rendered: RenderedConversation, ids: list[int], offsets_T2: np.ndarray
) -> _Encoded:
    ends_T = offsets_T2[:, 1]
    range_T = range_of(ends_T, rendered.contents)
    range_T[ends_T == ends_T[:1]] = -1  # nothing precedes the first token, nor the rest of its last character
    size = sum(len(rendered.text[start:end].encode()) for start, end in rendered.contents.tolist())
    scored = 0
    for number, (start, _) in enumerate(rendered.contents.tolist()):
        own = np.flatnonzero(range_T == number)
        if len(own):
            begin = max(start, int(ends_T[0])) if own[0] else start
            scored += len(rendered.text[begin : int(ends_T[own[-1]])].encode())
    spelt = [rendered.text[slice(*place)] for place in offsets_T2[range_T >= 0].tolist()]
    unknown = sum(
        token == tokenizer.unk_token_id and said.strip() != tokenizer.unk_token
        for token, said in zip(np.array(ids)[range_T >= 0].tolist(), spelt, strict=True)
    )
    return _Encoded(ids, range_T >= 0, scored, size - scored, unknown)

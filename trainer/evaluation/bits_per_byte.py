"""Held-out bits per byte: how well a model predicts a text, in a unit that no tokenizer can flatter.

Nats per token depend on how long the tokens are; divided by the bytes of the text instead, models with different
tokenizers compare. What is counted:

- A text is tokenized as a whole. Special tokens that the tokenizer adds (BOS, [CLS], EOS) are context, never scored.
- Without a BOS the first token has no context: it is not scored, and its bytes leave the count (`unscored_bytes`).
- A text of more than `max_tokens` is cut into windows that overlap by half. Every token is scored once, with at least
  half a window of context or, nearer to the beginning, all that precedes it; leading special tokens open every window.
- Bytes are the UTF-8 bytes of the text as given. A tokenizer that loses characters (unknown tokens, lower-casing) has
  less to predict, so its figure comes out too low: `unknown_tokens` counts the first kind.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from schemas.errors import CorpusError
from schemas.models.tokenizer import load_tokenizer
from schemas.models.tokenizer_run import run_tokenizer
from trainer.evaluation.metrics.bits_per_byte import BitsPerByte
from trainer.evaluation.windows import Window, check_length, cut, require_fast, score
from trainer.student.load import load_causal


def load_for_evaluation(folder: Path) -> tuple[nn.Module, PreTrainedTokenizerBase]:
    """Model (float32, CPU) and tokenizer of a local model folder, such as a finished run's.

    Raises ModelError or TokenizerError if there is none in it.
    """
    return load_causal(folder), load_tokenizer(folder)


def evaluate(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    max_tokens: int,
    device: torch.device | str = "cpu",
    batch_tokens: int = 4096,
) -> BitsPerByte:
    """Score `texts`. `batch_tokens` bounds a forward pass, padding counted, and changes no figure but in rounding.

    The model must be on `device`; it is left in the mode it came in. Raises ModelError if it has fewer than
    `max_tokens` positions, TokenizerError for a slow tokenizer, CorpusError if not one token can be scored.
    """
    check_length(model, max_tokens)
    windows: list[Window] = []
    scored_bytes = unscored_bytes = unknown = 0
    for text, ids, ends, special in _encode(tokenizer, texts):
        first = _first_scored(ends, special)
        unscored = len(text[: ends[first - 1]].encode()) if first and not special[first - 1] else 0
        unscored_bytes += unscored
        scored_bytes += len(text.encode()) - unscored
        body = [token for token, added in zip(ids, special, strict=True) if not added]
        unknown += _count_unknown(tokenizer, body, text)
        windows += cut(ids[: _leading(special)], body, first - _leading(special), max_tokens)
    tokens = sum(len(window.ids) - window.start for window in windows)
    if not tokens:
        raise CorpusError("not one token of the held-out texts can be scored: each text is a single token or none")
    nats = score(model, windows, device, batch_tokens)
    return BitsPerByte(
        nats_per_token=nats / tokens,
        bits_per_byte=nats / math.log(2) / scored_bytes,
        tokens=tokens,
        bytes=scored_bytes,
        texts=len(texts),
        unscored_bytes=unscored_bytes,
        unknown_tokens=unknown,
    )


def _encode(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]
) -> Iterator[tuple[str, list[int], list[int], list[int]]]:
    """Per text: the text, its token ids, their end offsets, and 1 for each token that the tokenizer added."""
    require_fast(tokenizer)
    encoded = run_tokenizer(
        tokenizer, texts, return_offsets_mapping=True, return_special_tokens_mask=True, return_attention_mask=False
    )
    columns = encoded["input_ids"], encoded["offset_mapping"], encoded["special_tokens_mask"]
    for text, ids, offsets, special in zip(texts, *columns, strict=True):
        yield text, ids, [end for _, end in offsets], special


def _leading(special: list[int]) -> int:
    """How many special tokens open the text."""
    return next((i for i, added in enumerate(special) if not added), len(special))


def _first_scored(ends: list[int], special: list[int]) -> int:
    """Index of the first scored token. Without a BOS, the tokens that share the first one's last character are left out
    with it: half a character has no bytes of its own."""
    first = _leading(special)
    if first == 0 and ends:
        return next((i for i, end in enumerate(ends) if end > ends[0] or special[i]), len(ends))
    return first


def _count_unknown(tokenizer: PreTrainedTokenizerBase, ids: list[int], text: str) -> int:
    # Some vocabularies use one token for unknown and end of text; where the text spells it out, it is known.
    unknown = ids.count(tokenizer.unk_token_id) if tokenizer.unk_token_id is not None else 0
    return max(0, unknown - text.count(str(tokenizer.unk_token))) if unknown else 0

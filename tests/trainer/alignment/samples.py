"""A cached sample and its words, made by hand: tokens are given as character ranges."""

from collections.abc import Iterable, Sequence

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from schemas.cache.samples import CachedSample
from schemas.cache.targets import response_targets
from schemas.cache.token_rows import every_row

Ranges = Sequence[tuple[int, int]]


def ranges(given: Ranges) -> np.ndarray:
    return np.array(given, np.int32).reshape(-1, 2)


def sample(
    text: str,
    tokens: Ranges,
    prompt_end: int = 0,
    truncated: bool = False,
    words: Ranges = (),
    nouns: Ranges = (),
    verbs: Ranges = (),
) -> CachedSample:
    ids = np.arange(len(tokens), dtype=np.int32)
    return CachedSample(
        id="s",
        text=text,
        targets=response_targets(prompt_end, len(text)),
        truncated=truncated,
        token_ids=ids,
        token_offsets=ranges(tokens),
        token_rows=every_row(len(tokens)),
        words=ranges(words),
        noun_phrases=ranges(nouns),
        verb_phrases=ranges(verbs),
    )


def word_tokenizer(words: Iterable[str], **special: str) -> PreTrainedTokenizerFast:
    """A token per word between spaces; `special` tokens come first, then "?" for words that it does not know."""
    vocabulary = {word: number for number, word in enumerate([*special.values(), "?", *words])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="?", **special)

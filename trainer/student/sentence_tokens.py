"""A sentence encoder's tokens: a text between the tokenizer's own special tokens, which a cut leaves in place."""

from collections.abc import Sequence

import numpy as np
from transformers import PreTrainedTokenizerBase

from schemas.cache.samples import CachedSample
from schemas.models.tokenizer_run import run_tokenizer
from trainer.alignment.student_text import StudentText


def sentence_tokens(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_tokens: int) -> list[list[int]]:
    """Token ids of each text, at most `max_tokens` with the special ones, as sentence-transformers makes them."""
    encoded = run_tokenizer(tokenizer, texts, truncation=True, max_length=max_tokens, return_attention_mask=False)
    ids: list[list[int]] = encoded["input_ids"]
    return ids


class SentenceTexts:
    """Tokenizes cached texts for an encoder student. No token is a target, and none is aligned to the teacher's."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_tokens: int):
        self.tokenizer, self.max_tokens = tokenizer, max_tokens

    def __call__(self, samples: Sequence[CachedSample]) -> list[StudentText]:
        """The tokens of each text, special ones included; every offset is empty."""
        texts = [sample.text for sample in samples]
        return [self._text(ids) for ids in sentence_tokens(self.tokenizer, texts, self.max_tokens)]

    def _text(self, ids: list[int]) -> StudentText:
        nowhere, no_target = np.zeros((len(ids), 2), np.int32), np.zeros(len(ids), bool)
        cut = len(ids) == self.max_tokens  # or it fits exactly, which no one asks
        return StudentText(np.array(ids, np.int64), nowhere, no_target, len(ids), cut)

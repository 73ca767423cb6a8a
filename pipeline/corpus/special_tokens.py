"""Special tokens that a text spells out: `<s>` of a template, `<|im_start|>` of a conversation.

The tokenizer makes special tokens of them. So a text that begins with the token that the tokenizer puts before every
text begins twice; and no word or phrase of the language lies within one. Costs one search of each text for the few
characters that special tokens begin with.
"""

import re
from collections.abc import Sequence

import numpy as np

from pipeline.corpus.sample import Spans
from schemas.cache.samples import Turn
from schemas.models.bare_tokenizer import AnyTokenizer
from schemas.models.tokenizer_run import encode_texts

_HIDDEN = "\n"  # ends a line for every annotator, so that no sentence runs across


class SpecialTokens:
    """The special tokens of one tokenizer."""

    def __init__(self, tokenizer: AnyTokenizer):
        added = tokenizer.added_tokens_decoder.values()
        spelled = {str(token.content) for token in added if token.special and str(token.content).strip()}
        longest_first = sorted(spelled, key=lambda token: (-len(token), token))
        self._pattern = re.compile("|".join(map(re.escape, longest_first))) if spelled else None
        self._first = {token[0] for token in spelled}
        self.beginning = _beginning(tokenizer)
        """The beginning that the tokenizer puts before every text, as it is spelled; None for nothing."""

    def begin(self, text: str) -> bool:
        """Returns whether `text` spells out a beginning, to which the tokenizer adds its own."""
        return self.beginning is not None and text.startswith(self.beginning)

    def are_in(self, text: str) -> bool:
        """Returns whether `text` spells out any of them."""
        return self._pattern is not None and self._may_be_in(text) and self._pattern.search(text) is not None

    def hide(self, text: str) -> str:
        """`text` with line ends in place of special tokens, as long as before: what an annotator is shown."""
        if self._pattern is None or not self._may_be_in(text):
            return text
        return self._pattern.sub(lambda found: _HIDDEN * len(found[0]), text)

    def outside(self, spans: Spans, text: str) -> Spans:
        """The spans that overlap no special token of `text`."""
        if self._pattern is None or not self._may_be_in(text):
            return spans
        found = np.array([match.span() for match in self._pattern.finditer(text)], np.int32).reshape(-1, 2)
        return Spans(*(_apart(kept, found) for kept in (spans.words, spans.noun_phrases, spans.verb_phrases)))

    def _may_be_in(self, text: str) -> bool:
        return any(character in text for character in self._first)


def said_alone(text: str, turns: Sequence[Turn]) -> str:
    """A conversation with line ends in place of all that its template wrote, as long as before; another text as it is.

    So no word or phrase is marked in a role's name or in a system message that nobody gave.
    """
    if not turns:
        return text
    said = [(turn.start, turn.end) for turn in turns if turn.part in ("content", "reasoning")]
    parts, before = list[str](), 0
    for start, end in said:
        parts += [_HIDDEN * (start - before), text[start:end]]
        before = end
    return "".join(parts) + _HIDDEN * (len(text) - before)


def _beginning(tokenizer: AnyTokenizer) -> str | None:
    (encoding,) = encode_texts(tokenizer, ["a"])
    if not encoding.special_tokens_mask[0]:
        return None
    return str(tokenizer.backend_tokenizer.id_to_token(encoding.ids[0]))


def _apart(spans_n2: np.ndarray, others_m2: np.ndarray) -> np.ndarray:
    """The rows [start, end) of the first that overlap none of the second, which are in order and apart."""
    if not len(spans_n2) or not len(others_m2):
        return spans_n2
    following_n = np.searchsorted(others_m2[:, 1], spans_n2[:, 0], side="right")
    begins_n = np.append(others_m2[:, 0], np.iinfo(np.int32).max)[following_n]
    return spans_n2[begins_n >= spans_n2[:, 1]]

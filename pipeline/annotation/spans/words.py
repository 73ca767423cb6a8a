"""Words of any language, as character spans, and the annotator that finds nothing else.

MTA asks for "whole words" (arXiv 2605.01374) and leaves open what they are. The rule here is one regular expression:
- a word is a run of letters, digits and the marks upon them (accents, vowel signs); punctuation, symbols and emoji are
  not words;
- an apostrophe, full stop, underscore, @, zero-width joiner or soft hyphen between two letters or digits, and a comma
  or colon between two digits, stay inside: `don't`, `U.S`, `foo_bar`, `me@home.org`, `3.14`, `1,000`, `10:30`.
  Hyphens and slashes part words: `well-known` is two. A web address that begins with `http://`, `https://` or `www.`
  is one word;
- a Chinese character or a hiragana is a word of its own: only a dictionary can tell more. Thai, Lao, Khmer and
  Burmese, which write no spaces either, come out as whole runs. A spaCy pipeline of the language does better.

It differs from the default word boundaries of Unicode (UAX #29) where that serves an alignment of tokens: an address
and what @ joins are one word; a colon joins digits (`10:30`), not letters (`a:b`); underscores join and do not begin or
end a word (`_emphasis_`); a middle dot or a semicolon never joins; a joiner may stand between a letter and a digit
(`v1.x2`); katakana and Latin letters in a row are one word; South-East Asian runs are not parted.

A contraction is one word because tokenizers cut it in different places ("don" + "'t", "don" + "'" + "t"): with "do"
and "n't" as words of their own, one of them would often have no token that ends inside it, and so no state.

Cost: about half a million words per second; the first call takes 0.2 s to collect the marks.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np

from pipeline.corpus.sample import Spans
from schemas.cache.annotator import WORDS_ALONE

_VERSION = 1

# Hiragana, and the Han blocks with their extensions and compatibility forms.
_UNSPACED = (
    "\u3005-\u3007\u3041-\u309f\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U0001b000-\U0001b16f\U00020000-\U0003ffff"
)


@lru_cache(maxsize=1)
def word_pattern() -> str:
    """Regular expression of one word, without groups that capture."""
    # Python's \w leaves out the combining marks, without which no Hindi word would stay in one piece.
    planes_with_marks = (*range(0x20000), *range(0xE0000, 0xE1000))
    marks = "".join(chr(c) for c in planes_with_marks if unicodedata.category(chr(c))[0] == "M")
    letter = rf"[^\W_{_UNSPACED}]"
    run = rf"{letter}(?:{letter}++|[{marks}]++)*+"
    joint = rf"(?:['’._@\u00ad\u200c\u200d](?={letter})|(?<=\d)[,:](?=\d))"
    address = rf"(?:https?://|www\.)[^\s<>\"()\[\]{{}}]*{letter}/?"
    # Most words of most texts, at half the cost: nothing in the look-ahead could make the word longer or an address.
    plain = r"[A-Za-z]++(?=[ ,;!?\n])"
    return rf"(?:{plain}|{address}|[{_UNSPACED}](?<=\w)[{marks}]*+|{run}(?:{joint}{run})*+)"


@lru_cache(maxsize=1)
def _word_regex() -> re.Pattern[str]:
    return re.compile(word_pattern())


def find_words(text: str) -> list[tuple[int, int]]:
    """Character spans of the words, in order."""
    return [match.span() for match in _word_regex().finditer(text)]


def span_array(spans: Iterable[tuple[int, int]]) -> np.ndarray:
    """Pairs as [n, 2] int32, also when there are none."""
    return np.array(list(spans), dtype=np.int32).reshape(-1, 2)


class WordAnnotator:
    """Words alone, in any language: MTA's word level without its phrase level. `annotator: none`."""

    version = f"{WORDS_ALONE} {_VERSION} (Unicode {unicodedata.unidata_version})"

    def annotate(self, texts: Sequence[str]) -> list[Spans]:
        """Words of each text; no phrases."""
        nothing = span_array(())
        return [Spans(span_array(find_words(text)), nothing, nothing) for text in texts]

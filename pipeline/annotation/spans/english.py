"""The built-in annotator of English: no model, no download, more than 100,000 words per second.

Words are those of `words`; for the phrases their contractions are taken apart (`do|n't`, `John|'s`), every piece and
every punctuation mark gets one letter (`english_lexicon`), the letters are settled by context (`english_context`),
and phrases are patterns over them. On a treebank it is as good as a small spaCy pipeline
(tests/benchmarks/annotators.py); of other languages it only finds the words.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.annotation.spans.english_context import coarse, find_noun_phrases, settle
from pipeline.annotation.spans.english_lexicon import CLITICS, load_lexicon
from pipeline.annotation.spans.patterns import find_verb_phrases
from pipeline.annotation.spans.words import span_array, word_pattern
from pipeline.corpus.sample import Spans

_VERSION = 1  # of the rules here, in `english_lexicon`, `english_context`, `patterns` and `words`

_MARKS_OF_LETTER = {".": ".!?", ",": ",;", '"': "\"'“”‘’«»", "(": "([{", ")": ")]}", "-": "-‐‑", "$": "$€£¥"}
_MARKS = {mark: letter for letter, marks in _MARKS_OF_LETTER.items() for mark in marks} | {"&": "&", "/": "/"}

_CLITIC = re.compile(r"(?:n['’]t|['’](?:s|m|re|ve|ll|d))$", re.IGNORECASE)
_ABBREVIATIONS = (
    "mr mrs ms dr prof gen sen rep gov capt col lt sgt jr sr inc corp co ltd bros dept st mt ave no vs "
    "jan feb mar apr jun jul aug sep sept oct nov dec"
)
_IS_ABBREVIATION = frozenset(_ABBREVIATIONS.split()).__contains__
_INITIALS = re.compile(r"[A-HJ-Z]|(?:[A-Za-z]\.)+[A-Za-z]")


@dataclass(frozen=True)
class _Tokens:
    """Words, halves of contractions, and punctuation marks: character spans, and one letter each."""

    starts: list[int]
    ends: list[int]
    tags: str

    def characters(self, spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
        return [(self.starts[first], self.ends[last - 1]) for first, last in spans]


class EnglishAnnotator:
    """Words, noun and verb phrases of English text. `annotator: english`.

    Raises AnnotatorError if the lexicon is not installed.
    """

    def __init__(self) -> None:
        self._lexicon = load_lexicon()
        self._token = re.compile(rf"(?P<word>{word_pattern()})|[\r\n]\s*+|\S")
        self.version = f"english {_VERSION} (lexicon {self._lexicon.digest}, Unicode {unicodedata.unidata_version})"

    def annotate(self, texts: Sequence[str]) -> list[Spans]:
        """Spans of each text, which depend on that text alone."""
        return [self._annotate(text) for text in texts]

    def _annotate(self, text: str) -> Spans:
        words, tokens = self._tokens(text)
        settled = settle(tokens.tags)
        return Spans(
            words=span_array(words),
            noun_phrases=span_array(tokens.characters(find_noun_phrases(settled))),
            verb_phrases=span_array(tokens.characters(find_verb_phrases(coarse(settled)))),
        )

    def _tokens(self, text: str) -> tuple[list[tuple[int, int]], _Tokens]:
        words: list[tuple[int, int]] = []
        starts: list[int] = []
        ends: list[int] = []
        tags: list[str] = []
        tag_of = self._lexicon.tag
        opens, previous, previous_end = True, "", 0  # `opens`: the next word may be capital without being a name
        for match in self._token.finditer(text):
            start, end = match.span()
            token = match.group()
            if token[0] in "\r\n" and _wraps(text[end : end + 1]):
                continue
            starts.append(start)
            if match.lastgroup:
                words.append((start, end))
                split = _split(token)
                if split:
                    ends.append(start + split)
                    starts.append(start + split)
                    tags.append(tag_of(token[:split].replace("’", "'"), opens))
                    tags.append(CLITICS.get(token[split:].lower().replace("’", "'"), "t"))
                else:
                    tags.append(tag_of(token, opens))
                opens = False
            else:
                adjoining = previous if start == previous_end else ""
                tag = _mark(token, adjoining, text[end : end + 1])
                tags.append(tag)
                opens = opens or tag in ".:"
            ends.append(end)
            previous, previous_end = token, end
        return words, _Tokens(starts, ends, "".join(tags))


def _wraps(after: str) -> bool:
    """Returns whether white space that begins with a line break only wraps a line: a small letter follows, or nothing.
    Every other line break ends a phrase."""
    return after == "" or "a" <= after <= "z"


def _split(word: str) -> int:
    """Where a contraction falls into two; 0 if it is not one."""
    if "'" in word or "’" in word:
        match = _CLITIC.search(word)
        return match.start() if match else 0
    return 3 if word in ("cannot", "Cannot", "CANNOT") else 0


def _mark(mark: str, before: str, after: str) -> str:
    """Letter of a punctuation mark or line break, by the token that touches it before and the character after it."""
    tag = "." if mark[0] in "\r\n" else _MARKS.get(mark, ":")
    if mark == "." and before and (_IS_ABBREVIATION(before.lower()) or _INITIALS.fullmatch(before)):
        return "_"
    if mark in "'’" and before[-1:] in ("s", "S") and after.isspace():
        return "S"
    if tag == "-" and not (before and after.isalnum()):
        return ":"  # a dash, not a hyphen
    return tag

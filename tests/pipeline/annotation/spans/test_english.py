"""The built-in annotator: phrases by hand, quality and speed on a treebank, and what its version stands for."""

import re
import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.annotation.spans.english import EnglishAnnotator
from pipeline.annotation.spans.english_lexicon import Lexicon
from pipeline.annotation.spans.words import word_pattern
from tests.benchmarks.annotators import evaluate
from tests.benchmarks.treebank import read_documents
from tests.material import MATERIAL, needs_material


@pytest.fixture(scope="module")
def english() -> EnglishAnnotator:
    return EnglishAnnotator()


BY_HAND = [
    (
        "She has quickly found the broken wooden bridge near the river.",
        ["She", "the broken wooden bridge", "the river"],
        # A participle before a noun is a VERB in the coarse tags, so a phrase of its own; longest-first resolves it.
        ["has quickly found", "broken"],
    ),
    ("My sister's best friend doesn't like  cold\nsoup.", ["My sister's best friend", "cold\nsoup"], ["like"]),
    ("The dogs' owner will never forget it.", ["The dogs' owner", "it"], ["will never forget"]),
    ("I'm going to the U.S. with Mr. Smith.", ["I", "the U.S.", "Mr. Smith"], ["'m going"]),
    ("They work here, and the work pays.", ["They", "the work"], ["work here", "pays"]),
    ("He wants to book a room; the book was read.", ["He", "a room", "the book"], ["wants", "book", "was read"]),
    ("There are three silver coins.", ["three silver coins"], ["are"]),
    ("What’s her name? Let her go!", ["What", "her name", "her"], ["Let", "go"]),
    ("A big, very old and heavy 15-year term", ["A big, very old and heavy 15-year term"], []),
    ("We met last week in Paris.\n\nParis is big.", ["We", "Paris", "Paris"], ["met"]),
    ("I know that he saw that film, which was long.", ["I", "he", "that film", "which"], ["know", "saw"]),
    ("They did n't cannot", ["They"], []),
    ("", [], []),
    (" \n\t ", [], []),
    ("?!", [], []),
]


@pytest.mark.parametrize(("text", "nouns", "verbs"), BY_HAND)
def test_phrases_by_hand(english: EnglishAnnotator, text: str, nouns: list[str], verbs: list[str]) -> None:
    (spans,) = english.annotate([text])
    assert [text[start:end] for start, end in spans.noun_phrases] == nouns
    assert [text[start:end] for start, end in spans.verb_phrases] == verbs


def test_offsets_count_characters_not_bytes(english: EnglishAnnotator) -> None:
    text = "🙂 Café's   new\u00a0owner — 漢 — has gone."
    (spans,) = english.annotate([text])
    assert [text[start:end] for start, end in spans.words] == ["Café's", "new", "owner", "漢", "has", "gone"]
    assert [text[start:end] for start, end in spans.noun_phrases] == ["Café's   new\u00a0owner", "漢"]
    assert [text[start:end] for start, end in spans.verb_phrases] == ["has gone"]


@needs_material
def test_it_finds_the_phrases_of_a_treebank_it_was_not_made_on() -> None:
    documents = read_documents(MATERIAL / "text/parse/en_ewt-ud-dev.conllu")
    assert len(documents) == 318 and sum(document.num_words for document in documents) == 21_991
    result = evaluate("english", documents, rounds=1)
    assert result.noun_phrases.f1 > 85
    assert result.verb_phrases.f1 > 86


@pytest.mark.parametrize(
    "unit", ["very ", "5 ", "old ", "N-J ", "dog ", "is ", "'s ", "a", ".", "www.", "https://", "a_", "- ", "I "]
)
def test_endless_repetition_costs_no_more_than_its_length(english: EnglishAnnotator, unit: str) -> None:
    """Models loop. A pattern that tries every way to split a run would take minutes here."""
    english.annotate([unit * 10])
    start = time.process_time()
    english.annotate([unit * 20_000])
    assert time.process_time() - start < 3


def test_the_version_names_rules_lexicon_and_unicode_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    content = b";;; comment\ndog NN\ndogs NNS\nbark VB\n"
    monkeypatch.setattr("pipeline.annotation.spans.english.load_lexicon", lambda: Lexicon(content))
    version = EnglishAnnotator().version
    assert version == f"english 1 (lexicon {Lexicon(content).digest}, Unicode {unicodedata.unidata_version})"
    monkeypatch.setattr("pipeline.annotation.spans.english.load_lexicon", lambda: Lexicon(content + b"cat NN\n"))
    assert EnglishAnnotator().version != version


ENGLISH = EnglishAnnotator()


@given(st.text(alphabet=st.sampled_from("aZ \t\n\r\x85\u2028.1é"), max_size=30))
def test_line_breaks_end_phrases_as_the_rule_says(text: str) -> None:
    """The rule written as one look-ahead, which would take quadratic time over line breaks."""
    rule = re.compile(rf"({word_pattern()})|[\r\n]\s*(?=[^\sa-z])|\S")
    _, tokens = ENGLISH._tokens(text)
    assert list(zip(tokens.starts, tokens.ends, strict=True)) == [match.span() for match in rule.finditer(text)]


@pytest.mark.parametrize(
    "white", ["\n", "\r\n", "\n ", "\n\t", " ", "\u2028\n", "\x85", "the old ", "a-", '"', "x's ", "1,", "a.", "www."]
)
def test_no_run_takes_more_than_linear_time(white: str) -> None:
    """200,000 line breaks took six minutes; here any run takes seconds at most, whatever stands around it."""
    annotator = EnglishAnnotator()
    started = time.process_time()
    for before, after in (("A", "end"), ("A\n", "End"), ("A", "")):
        annotator.annotate([before + white * (200_000 // len(white)) + after])
    assert time.process_time() - started < 10

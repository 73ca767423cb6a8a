"""What every annotator promises, whoever it is: spans that hold, and a word rule for any language."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.annotation.annotator import Annotator, load_annotator
from pipeline.annotation.spans.patterns import TAG_OF_UPOS, find_noun_phrases, find_verb_phrases
from pipeline.annotation.spans.words import find_words
from schemas.errors import AnnotatorError
from tests.pipeline.annotation.texts import MESSY, assert_sound


@pytest.fixture(scope="module", params=["english", "none"])
def annotator(request: pytest.FixtureRequest) -> Annotator:
    return load_annotator(request.param)


@settings(max_examples=150, deadline=None)
@given(text=MESSY)
def test_spans_are_sound_in_any_text(annotator: Annotator, text: str) -> None:
    (spans,) = annotator.annotate([text])
    for array in (spans.words, spans.noun_phrases, spans.verb_phrases):
        assert_sound(text, array)


@settings(max_examples=50, deadline=None)
@given(texts=st.lists(MESSY, max_size=5))
def test_a_text_is_annotated_alike_in_any_company(annotator: Annotator, texts: list[str]) -> None:
    together = annotator.annotate(texts)
    assert len(together) == len(texts)
    for text, spans in zip(texts, together, strict=True):
        (alone,) = annotator.annotate([text])
        for kind in ("words", "noun_phrases", "verb_phrases"):
            assert np.array_equal(getattr(spans, kind), getattr(alone, kind))


@settings(max_examples=150, deadline=None)
@given(text=MESSY)
def test_words_cover_every_letter_and_digit_and_begin_and_end_with_one(text: str) -> None:
    words = find_words(text)
    covered = {i for start, end in words for i in range(start, end)}
    assert {i for i, character in enumerate(text) if character.isalnum()} <= covered
    for start, _ in words:
        assert text[start].isalnum()


@settings(max_examples=100, deadline=None)
@given(text=MESSY)
def test_the_built_in_annotators_agree_on_words(text: str) -> None:
    built_in, none = (load_annotator(spec).annotate([text])[0].words for spec in ("english", "none"))
    assert np.array_equal(built_in, none)
    assert built_in.tolist() == [list(span) for span in find_words(text)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("don't I’m o'clock 'quoted' dogs'", ["don't", "I’m", "o'clock", "quoted", "dogs"]),
        ("well-known and/or rock 'n' roll", ["well", "known", "and", "or", "rock", "n", "roll"]),
        ("3.14, 1,000; 10:30 is 5% of $7.", ["3.14", "1,000", "10:30", "is", "5", "of", "7"]),
        ("U.S. e.g. 2,no a:b", ["U.S", "e.g", "2", "no", "a", "b"]),
        ("see https://x.org/a-b?c=1, (www.y.com/) or me@home.org.", None),
        ("snake_case and _emphasis_ __init__", ["snake_case", "and", "emphasis", "init"]),
        ("Café e\u0301te\u0301 naïve straße", ["Café", "e\u0301te\u0301", "naïve", "straße"]),
        ("漢字とカタカナ語 한국어 문장", ["漢", "字", "と", "カタカナ", "語", "한국어", "문장"]),
        ("हिन्दी में می‌خواهم", ["हिन्दी", "में", "می‌خواهم"]),
        ("🙂 👩‍👩‍👧‍👦 -- …", []),
    ],
)
def test_words_by_hand(text: str, words: list[str] | None) -> None:
    expected = words if words is not None else ["see", "https://x.org/a-b?c=1", "www.y.com/", "or", "me@home.org"]
    assert [text[start:end] for start, end in find_words(text)] == expected


def test_none_finds_words_and_no_phrases() -> None:
    found = load_annotator("none").annotate(["The old dog was barking.", "Der Hund, der bellt", "", "…"])
    assert [len(spans.words) for spans in found] == [5, 4, 0, 0]
    for spans in found:
        assert spans.noun_phrases.shape == spans.verb_phrases.shape == (0, 2)


def tags(upos: str) -> str:
    return "".join(TAG_OF_UPOS[tag] for tag in upos.split())


def test_verb_phrases_are_aux_adv_verb_adv() -> None:
    assert find_verb_phrases(tags("PRON AUX AUX ADV ADV VERB VERB ADV DET NOUN")) == [(1, 8)]
    assert find_verb_phrases(tags("AUX ADJ PUNCT ADV NOUN")) == []  # a copula is not a verb phrase
    assert find_verb_phrases(tags("AUX PART VERB ADV AUX VERB")) == [(2, 4), (4, 6)]
    assert find_verb_phrases(tags("ADV AUX VERB")) == [(1, 3)]


def test_noun_phrases_are_heads_with_what_stands_before_them() -> None:
    assert find_noun_phrases(tags("DET ADV ADJ NOUN NOUN VERB PRON ADP PROPN PROPN")) == [(0, 5), (6, 7), (8, 10)]
    assert find_noun_phrases(tags("DET NOUN") + "S" + tags("ADJ NOUN PUNCT NUM NOUN CCONJ NOUN")) == [
        (0, 5),
        (6, 8),
        (9, 10),
    ]
    assert find_noun_phrases(tags("ADJ ADV DET NUM")) == []


@pytest.mark.parametrize(
    "spec", ["", "English", "spacy", "spacy:", "nltk", "none:x", "english ", "spaCy:en_core_web_sm"]
)
def test_an_unknown_annotator_is_refused_with_the_known_ones(spec: str) -> None:
    with pytest.raises(AnnotatorError, match=r"'english'.*'none'.*'spacy:NAME_OR_PATH'"):
        load_annotator(spec)


def test_the_built_in_annotators_load_neither_spacy_nor_nltk_and_warn_of_nothing() -> None:
    script = (
        "import sys; from pipeline.annotation.annotator import load_annotator; "
        "[load_annotator(spec).annotate(['A dog barked.']) for spec in ('english', 'none')]; "
        "print(sorted({'spacy', 'nltk', 'textblob', 'torch', 'ray'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")

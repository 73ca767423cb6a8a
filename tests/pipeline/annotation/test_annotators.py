"""What every annotator promises, whoever it is: spans that hold, and a word rule for any language."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.annotation.annotator import Annotator, load_annotator
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


@settings(max_examples=100, deadline=None)
@given(text=MESSY)
def test_the_built_in_annotators_agree_on_words(text: str) -> None:
    built_in, none = (load_annotator(spec).annotate([text])[0].words for spec in ("english", "none"))
    assert np.array_equal(built_in, none)
    assert built_in.tolist() == [list(span) for span in find_words(text)]


def test_none_finds_words_and_no_phrases() -> None:
    found = load_annotator("none").annotate(["The old dog was barking.", "Der Hund, der bellt", "", "…"])
    assert [len(spans.words) for spans in found] == [5, 4, 0, 0]
    for spans in found:
        assert spans.noun_phrases.shape == spans.verb_phrases.shape == (0, 2)


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

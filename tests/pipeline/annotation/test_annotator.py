"""Annotators are found by a registry, and a cache's own words tell whether phrases were marked."""

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import cast

import pytest

from pipeline.annotation.annotator import ANNOTATORS, Annotator, AnnotatorKind, load_annotator, parse_annotator
from pipeline.annotation.spans.words import WordAnnotator, find_words, span_array
from pipeline.corpus.sample import Spans
from schemas.cache.annotator import UNANNOTATED, marks_phrases
from schemas.errors import AnnotatorError, ConfigError


def test_what_is_built_in() -> None:
    assert [kind.usage for kind in ANNOTATORS.values()] == ["english", "none", "spacy:NAME_OR_PATH"]


@pytest.mark.parametrize("spec", ["englsh", "", "english:", "english:x", "none:x", "spacy", "spacy:", ":", "\x1b[31m"])
def test_an_unknown_one_is_refused_with_those_there_are(spec: str) -> None:
    with pytest.raises(AnnotatorError, match=r"Unknown span annotator '.*'english' .*'none' .*'spacy:NAME_OR_PATH'"):
        load_annotator(spec)


def test_a_cache_says_whether_phrases_were_marked() -> None:
    """Caches of format 1 hold the annotator's version, whose words must keep their meaning."""
    assert WordAnnotator().version.startswith("words 1 (Unicode ")
    assert not marks_phrases(WordAnnotator().version) and not marks_phrases(UNANNOTATED)
    assert marks_phrases(load_annotator("english").version)
    assert marks_phrases("spacy:en_core_web_sm 3.8.0 sha=0 (spacy 3.8.7, patterns 1)")


class Shouting:
    """A toy annotator: every word is a noun phrase of the kind that its argument asks for."""

    version = "shouting 1"

    def annotate(self, texts: Sequence[str]) -> list[Spans]:
        words = [span_array(find_words(text)) for text in texts]
        return [Spans(found, found, span_array(())) for found in words]


def test_a_new_annotator_is_one_object(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = AnnotatorKind("shouting", "a toy", lambda argument: Shouting(), argument="LOUDNESS")
    monkeypatch.setitem(ANNOTATORS.__dict__, "_found", {"shouting": kind})
    (spans,) = load_annotator("shouting:loud").annotate(["one two"])
    assert spans.noun_phrases.tolist() == [[0, 3], [4, 7]]
    with pytest.raises(AnnotatorError, match=r"'shouting:LOUDNESS' \(a toy\)"):
        load_annotator("shouting")


@pytest.mark.parametrize("spec", ["english", "none", "spacy:en_core_web_sm", "spacy:/a/b:c"])
def test_what_a_config_says_is_parsed_in_one_place(spec: str) -> None:
    kind, argument = parse_annotator(spec)
    assert kind.spec(argument) == spec


def _fail(_: str) -> Annotator:
    raise RuntimeError("hoarse")


@pytest.mark.parametrize(
    ("load", "said"),
    [
        (_fail, "RuntimeError: hoarse"),
        (lambda _: None, "AttributeError: 'NoneType' object has no attribute 'version'"),
        (lambda _: SimpleNamespace(version=1), "ValueError: its `version`: Input should be a valid string"),
    ],
)
def test_one_of_a_package_that_fails_is_named(
    monkeypatch: pytest.MonkeyPatch, load: Callable[[str], Annotator], said: str
) -> None:
    monkeypatch.setitem(ANNOTATORS.__dict__, "_found", {"shouting": AnnotatorKind("shouting", "a toy", load)})
    monkeypatch.setattr(ANNOTATORS, "_packages", {"shouting": "megaphone 1.0"})
    with pytest.raises(ConfigError, match=f"^the annotator 'shouting' of megaphone 1.0 failed: {said}; mend"):
        load_annotator("shouting")


def test_one_of_wrong_form_is_refused() -> None:
    assert ANNOTATORS.check is not None
    with pytest.raises(ValueError, match=r"^its `load`: Input should be callable$"):
        ANNOTATORS.check(AnnotatorKind("shouting", "a toy", cast(Callable[[str], Annotator], "loud")))
    with pytest.raises(ValueError, match=r"^it is the class Shouting, not an object of .*\.AnnotatorKind$"):
        ANNOTATORS.check(cast(AnnotatorKind, Shouting))

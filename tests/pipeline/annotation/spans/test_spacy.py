"""spaCy pipelines as annotators: a real one with a parser, and rule-made ones without."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import spacy
import spacy.about
from hypothesis import given, settings
from hypothesis import strategies as st
from spacy.pipeline import AttributeRuler

from pipeline.annotation.annotator import load_annotator
from pipeline.annotation.spans.spacy import SpacyAnnotator, load_spacy
from schemas.errors import AnnotatorError
from tests.benchmarks.annotators import evaluate
from tests.benchmarks.treebank import read_documents
from tests.material import MATERIAL, needs_material
from tests.pipeline.annotation.texts import MESSY, assert_sound

PARSER = MATERIAL / "models" / "en_ewt_small"

_UPOS = {
    "DET": "the a",
    "PRON": "i it",
    "AUX": "was has do",
    "ADV": "very quickly",
    "VERB": "running seen like",
    "ADJ": "old red",
    "NOUN": "dog house soup",
    "PROPN": "John Mary",
    "PART": "n't not",
    "NUM": "two",
    "PUNCT": ". , -",
}


@pytest.fixture(scope="module")
def tagged_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved pipeline with coarse tags by rule, and no parser."""
    nlp = spacy.blank("en")
    ruler = nlp.add_pipe("attribute_ruler")
    assert isinstance(ruler, AttributeRuler)
    for upos, words in _UPOS.items():
        ruler.add([[{"LOWER": word.lower()}] for word in words.split()], {"POS": upos})
    ruler.add([[{"LOWER": "'s"}]], {"POS": "PART", "TAG": "POS"})
    ruler.add([[{"LOWER": "my"}]], {"POS": "PRON", "MORPH": "Poss=Yes"})
    folder = tmp_path_factory.mktemp("pipelines") / "tagged"
    nlp.to_disk(folder)
    return folder


@pytest.fixture(scope="module")
def tagged(tagged_folder: Path) -> SpacyAnnotator:
    return load_spacy(str(tagged_folder))


@pytest.fixture(scope="module")
def parser() -> SpacyAnnotator:
    return load_spacy(str(PARSER))


def phrases(annotator: SpacyAnnotator, text: str) -> tuple[list[str], list[str], list[str]]:
    (spans,) = annotator.annotate([text])
    kinds = (spans.words, spans.noun_phrases, spans.verb_phrases)
    return tuple([text[start:end] for start, end in kind] for kind in kinds)  # type: ignore[return-value]


def test_without_a_parser_noun_phrases_are_a_pattern_over_coarse_tags(tagged: SpacyAnnotator) -> None:
    words, nouns, verbs = phrases(
        tagged, "My dog's very old  house was very quickly running, do n't like John\n\nMary. I like it."
    )
    assert words[:6] == ["My", "dog's", "very", "old", "house", "was"]
    assert nouns == ["My dog's very old  house", "John", "Mary", "I", "it"]
    assert verbs == ["was very quickly running", "like", "like"]


def test_contractions_are_one_word(tagged: SpacyAnnotator) -> None:
    words, _, verbs = phrases(tagged, "I don't like John's dog-house, it's 'red' 🙂 — don’t")
    assert words == ["I", "don't", "like", "John's", "dog", "house", "it's", "red", "don’t"]
    assert verbs == ["like"]


@needs_material
def test_with_a_parser_noun_phrases_are_its_chunks(parser: SpacyAnnotator) -> None:
    text = "The old miller has quickly found a bright red apple \n  near my sister's house."
    words, nouns, verbs = phrases(parser, text)
    assert words == text.strip(".").split()
    assert nouns == ["The old miller", "a bright red apple", "my sister's house"]
    assert verbs == ["has quickly found"]


@needs_material
def test_it_finds_the_phrases_of_a_treebank() -> None:
    documents = read_documents(MATERIAL / "text/parse/en_ewt-ud-dev.conllu")[200:250]
    result = evaluate(f"spacy:{PARSER}", documents, rounds=1)
    assert result.noun_phrases.f1 > 78
    assert result.verb_phrases.f1 > 65  # this pipeline takes a copula for a VERB, the treebank for an AUX


@settings(max_examples=100, deadline=None)
@given(text=MESSY)
def test_spans_are_sound_in_any_text_by_rules(tagged: SpacyAnnotator, text: str) -> None:
    (spans,) = tagged.annotate([text])
    for array in (spans.words, spans.noun_phrases, spans.verb_phrases):
        assert_sound(text, array)


@needs_material
@settings(max_examples=40, deadline=None)
@given(texts=st.lists(MESSY, min_size=1, max_size=3))
def test_spans_are_sound_and_alike_in_any_company(parser: SpacyAnnotator, texts: list[str]) -> None:
    for text, spans in zip(texts, parser.annotate(texts), strict=True):
        (alone,) = parser.annotate([text])
        for kind in ("words", "noun_phrases", "verb_phrases"):
            assert_sound(text, getattr(spans, kind))
            assert np.array_equal(getattr(spans, kind), getattr(alone, kind))


def test_the_version_follows_the_files_and_not_the_place(tagged_folder: Path, tmp_path: Path) -> None:
    version = load_annotator(f"spacy:{tagged_folder}").version
    assert version.startswith("spacy:en_pipeline 0.0.0 sha=") and f"spacy {spacy.about.__version__}" in version
    assert str(tagged_folder) not in version
    shutil.copytree(tagged_folder, tmp_path / "elsewhere")
    assert load_annotator(f"spacy:{tmp_path / 'elsewhere'}").version == version
    patterns = next((tmp_path / "elsewhere" / "attribute_ruler").iterdir())
    changed = load_spacy(str(tagged_folder))._nlp
    ruler = changed.get_pipe("attribute_ruler")
    assert isinstance(ruler, AttributeRuler)
    ruler.add([[{"LOWER": "cat"}]], {"POS": "NOUN"})
    changed.to_disk(tmp_path / "changed")
    assert patterns.read_bytes() != (tmp_path / "changed" / "attribute_ruler" / patterns.name).read_bytes()
    assert load_annotator(f"spacy:{tmp_path / 'changed'}").version != version


def test_a_pipeline_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(AnnotatorError, match="python -m spacy download xx_no_such_model"):
        load_annotator("spacy:xx_no_such_model")
    with pytest.raises(AnnotatorError, match=r"neither as an installed package nor as a folder.*download gone`"):
        load_annotator(f"spacy:{tmp_path / 'gone'}")
    with pytest.raises(AnnotatorError, match="neither as an installed package nor as a folder"):
        load_annotator(f"spacy:{__file__}")


def test_a_folder_that_is_no_pipeline(tmp_path: Path) -> None:
    with pytest.raises(AnnotatorError, match="does not load with spaCy"):
        load_annotator(f"spacy:{tmp_path}")
    spacy.blank("en").to_disk(tmp_path)
    (tmp_path / "config.cfg").write_text(
        "[nlp]\nlang = 'en'\npipeline = ['no_such']\n[components.no_such]\nfactory = 'no_such'\n"
    )
    with pytest.raises(AnnotatorError, match="does not load with spaCy"):
        load_annotator(f"spacy:{tmp_path}")


def test_a_pipeline_without_parts_of_speech(tmp_path: Path) -> None:
    nlp = spacy.blank("en")
    nlp.add_pipe("sentencizer")
    nlp.to_disk(tmp_path)
    with pytest.raises(AnnotatorError, match=r"no coarse parts of speech. It has \['sentencizer'\]"):
        load_annotator(f"spacy:{tmp_path}")


def test_a_text_that_is_too_long_is_named(tagged_folder: Path) -> None:
    annotator = load_spacy(str(tagged_folder))
    annotator._nlp.max_length = 10
    with pytest.raises(AnnotatorError, match="11 characters, beginning 'the old dog'"):
        annotator.annotate(["the dog", "the old dog"])

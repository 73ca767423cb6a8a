"""What an English word may be, by the lexicon or by its ending."""

import importlib.util
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from pipeline.annotation.annotator import load_annotator
from pipeline.annotation.spans.english_lexicon import Lexicon, load_lexicon
from schemas.errors import AnnotatorError


def test_inflected_forms_betray_what_else_a_word_can_be() -> None:
    lexicon = Lexicon(b"work NN\nworked VBD\nneed VBP\nneeds NNS\nhouse NN\nreading NN\nread VB\nopen JJ\nopened VBD\n")
    asked = ("work", "works", "need", "needs", "house", "reading", "read", "reads", "open")
    assert {word: lexicon.tag(word, False) for word in asked} == {
        "work": "n",
        "works": "m",
        "need": "v",
        "needs": "m",
        "house": "N",
        "reading": "g",
        "read": "B",
        "reads": "Z",
        "open": "f",
    }
    assert lexicon.tag("Smurf", False) == lexicon.tag("Smurf", True) == lexicon.tag("Work", False) == "E"
    assert lexicon.tag("Work", True) == "n"


def test_without_textblob_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    load_lexicon.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(AnnotatorError, match="pip install textblob"):
        load_annotator("english")
    emptied = ModuleSpec("textblob", None, is_package=True)
    emptied.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: emptied)
    with pytest.raises(AnnotatorError, match=r"en-lexicon\.txt.*pip install textblob==0\.20\.1"):
        load_annotator("english")

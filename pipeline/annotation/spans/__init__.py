"""Who marks words and phrases in a text: annotators behind one interface.

`english` is built in, `spacy:NAME_OR_PATH` runs any spaCy pipeline, `none` finds words only, in any language.
"""

from collections.abc import Sequence
from typing import Protocol

from pipeline.corpus.sample import Spans
from schemas.errors import AnnotatorError


class Annotator(Protocol):
    """Finds character spans. A text's spans depend on that text and on `version`, and on nothing else."""

    @property
    def version(self) -> str:
        """Names everything that spans depend on; part of the cache's fingerprint. Holds no path of the machine."""
        ...

    def annotate(self, texts: Sequence[str]) -> list[Spans]:
        """Words, noun phrases and verb phrases of each text."""
        ...


def load_annotator(spec: str) -> Annotator:
    """The annotator that a config names: 'english', 'none' or 'spacy:NAME_OR_PATH'.

    Raises AnnotatorError if there is none such, or it is not installed, or lacks what it needs.
    """
    # Imported here: only the one that is asked for need be installed, and spaCy alone takes three seconds.
    kind, _, name = spec.partition(":")
    if spec == "english":
        from pipeline.annotation.spans.english import EnglishAnnotator

        return EnglishAnnotator()
    if spec == "none":
        from pipeline.annotation.spans.words import WordAnnotator

        return WordAnnotator()
    if kind == "spacy" and name:
        from pipeline.annotation.spans.spacy import load_spacy

        return load_spacy(name)
    raise AnnotatorError(
        f"There is no span annotator {spec!r}. Set `spans.annotator` to 'english' (built in), 'none' (words only) "
        "or 'spacy:NAME_OR_PATH', such as 'spacy:en_core_web_sm'."
    )

"""`annotator: spacy:NAME_OR_PATH`."""

from pipeline.annotation.annotator import Annotator, AnnotatorKind


def _load(name: str) -> Annotator:
    from pipeline.annotation.spans.spacy import load_spacy  # spaCy alone takes three seconds to import

    return load_spacy(name)


ANNOTATOR = AnnotatorKind("spacy", "a spaCy pipeline, such as spacy:en_core_web_sm", _load, argument="NAME_OR_PATH")

"""`annotator: none`."""

from pipeline.annotation.annotator import Annotator, AnnotatorKind


def _load(_: str) -> Annotator:
    from pipeline.annotation.spans.words import WordAnnotator

    return WordAnnotator()


ANNOTATOR = AnnotatorKind("none", "words only, of any language", _load)

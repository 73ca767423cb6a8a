"""`annotator: english`."""

from pipeline.annotation.annotator import Annotator, AnnotatorKind


def _load(_: str) -> Annotator:
    from pipeline.annotation.spans.english import EnglishAnnotator

    return EnglishAnnotator()


ANNOTATOR = AnnotatorKind("english", "built in, no download", _load)

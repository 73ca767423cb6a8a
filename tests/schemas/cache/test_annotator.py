"""Whether phrases are marked follows from the annotator's own name, which is the first word of the string."""

import pytest

from schemas.cache.annotator import marks_phrases


@pytest.mark.parametrize(
    ("annotator", "marks"),
    [
        ("nobody", False),
        ("words", False),
        ("words 1 (Unicode 14.0.0)", False),
        ("english 1 (lexicon 9545c71faf16, Unicode 14.0.0)", True),
        ("spacy:en_core_web_sm 3.8.0", True),
        ("wordsmith 1", True),
        ("all words", True),
    ],
)
def test_words_alone_are_no_phrases(annotator: str, marks: bool) -> None:
    assert marks_phrases(annotator) is marks

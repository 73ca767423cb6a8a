"""Who marked the spans of a cache, as format 1 says it: one string, which begins with the annotator's own name.

`english 1 (lexicon …, Unicode …)`, `words 1 (Unicode …)` of the annotator `none`, `spacy:…`, and UNANNOTATED.
"""

UNANNOTATED = "nobody"  # of a cache that keeps no tokens, and so no spans
WORDS_ALONE = "words"


def marks_phrases(annotator: str) -> bool:
    """Returns whether a cache with this `annotator` in its manifest has phrases marked, where its texts have any."""
    return annotator != UNANNOTATED and annotator.partition(" ")[0] != WORDS_ALONE

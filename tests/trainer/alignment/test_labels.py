"""Labels of a sample's spans against a search through all of them, character by character."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.cache.targets import response_targets
from tests.trainer.alignment.samples import Ranges, ranges, sample
from trainer.alignment.labels import SpanChoice, label_spans
from trainer.alignment.spans import aligned_spans
from trainer.alignment.student_text import StudentText

TEXT = "the old cat has seen a dog"
TEACHER: Ranges = [(0, 3), (3, 7), (7, 11), (11, 15), (15, 20), (20, 22), (22, 26)]  # words, with the space before
STUDENT: Ranges = [(0, 3), (4, 5), (5, 7), (8, 11), (12, 20), (21, 22), (23, 25), (25, 26)]
WORDS: Ranges = [(0, 3), (4, 7), (8, 11), (12, 15), (16, 20), (21, 22), (23, 26)]
NOUNS: Ranges = [(0, 11), (21, 26)]
VERBS: Ranges = [(12, 20), (16, 20)]


def student(offsets: Ranges, cut: bool = False) -> StudentText:
    none = np.zeros(len(offsets), bool)
    return StudentText(np.arange(len(offsets)), ranges(offsets), none, len(offsets), cut)


def labels(
    choice: SpanChoice, offsets: Ranges = STUDENT, prompt_end: int = 0, cut: bool = False
) -> tuple[list[int], list[int], int]:
    one = sample(TEXT, TEACHER, prompt_end, words=WORDS, nouns=NOUNS, verbs=VERBS)
    on_teacher, on_student, count = label_spans(choice, one, student(offsets, cut))
    return on_teacher.tolist(), on_student.tolist(), count


def test_words() -> None:
    """ "has" has no end on the student's side, so neither side has that span; "has seen" ends with "seen"."""
    assert labels(SpanChoice("word", "text")) == ([0, 1, 2, -1, 3, 4, 5], [0, 1, 1, 2, 3, 4, 5, 5], 6)
    assert labels(SpanChoice("word", "response"), prompt_end=4) == (
        [-1, 0, 1, -1, 2, 3, 4],
        [-1, 0, 0, 1, 2, 3, 4, 4],
        5,
    )
    assert labels(SpanChoice("word", "text"), prompt_end=4) == labels(SpanChoice("word", "text"))
    # A word across the end of the prompt is not one of the response.
    assert labels(SpanChoice("word", "response"), prompt_end=5)[2] == 4


def test_phrases() -> None:
    assert labels(SpanChoice("phrase", "text", ("noun",))) == ([0, 0, 0, -1, -1, 1, 1], [0, 0, 0, 0, -1, 1, 1, 1], 2)
    # Of overlapping ones the longest is taken.
    assert labels(SpanChoice("phrase", "text", ("verb",))) == ([-1, -1, -1, 0, 0, -1, -1], [-1] * 4 + [0] + [-1] * 3, 1)
    both = ([0, 0, 0, 1, 1, 2, 2], [0, 0, 0, 0, 1, 2, 2, 2], 3)
    assert labels(SpanChoice("phrase", "text", ("noun", "verb"))) == both
    assert labels(SpanChoice("phrase", "text", ("verb", "noun"))) == both
    assert labels(SpanChoice("phrase", "response", ("noun", "verb")), prompt_end=12)[2] == 2


def test_a_student_that_was_cut_is_not_given_half_a_word() -> None:
    """It saw "the old cat has seen a do"."""
    seen = STUDENT[:-1]
    assert labels(SpanChoice("word", "text"), seen, cut=True) == ([0, 1, 2, -1, 3, 4, -1], [0, 1, 1, 2, 3, 4, -1], 5)
    assert labels(SpanChoice("word", "text"), seen, cut=False)[2] == 6  # "dog" ends in its last token
    assert labels(SpanChoice("word", "text"), [], cut=True) == ([-1] * 7, [], 0)
    assert labels(SpanChoice("word", "text"), [(0, 0)], cut=True) == ([-1] * 7, [-1], 0)


@pytest.mark.parametrize("most", [None, 3])
@pytest.mark.parametrize("prompt_end", [0, 9])
def test_aligned_spans_begin_where_their_scope_does(prompt_end: int, most: int | None) -> None:
    for scope, start in (("response", prompt_end), ("text", 0)):
        wanted = aligned_spans(ranges(TEACHER), ranges(STUDENT), response_targets(start, len(TEXT)), most)
        found = labels(SpanChoice("aligned", scope, max_spans=most), prompt_end=prompt_end)  # type: ignore[arg-type]
        assert found == (wanted[0].tolist(), wanted[1].tolist(), wanted[2])


cuts = st.sets(st.integers(1, len(TEXT) - 1)).map(sorted)
spans = st.lists(st.tuples(st.integers(0, len(TEXT)), st.integers(0, 8)), max_size=9)


@given(cuts, cuts, spans, spans, st.integers(0, len(TEXT)), st.booleans(), st.integers(0, 9))
@settings(deadline=None, max_examples=150)
def test_a_token_is_labelled_with_the_phrase_that_it_ends_in(
    teacher_cuts: list[int],
    student_cuts: list[int],
    nouns: list[tuple[int, int]],
    verbs: list[tuple[int, int]],
    prompt_end: int,
    cut: bool,
    lost: int,
) -> None:
    sides = [list(zip([0, *at], [*at, len(TEXT)], strict=True)) for at in (teacher_cuts, student_cuts)]
    sides[1] = sides[1][: max(0, len(sides[1]) - lost)]
    phrases = [[(a, min(a + n, len(TEXT))) for a, n in given] for given in (nouns, verbs)]
    one = sample(TEXT, sides[0], prompt_end, nouns=phrases[0], verbs=phrases[1])
    choice = SpanChoice("phrase", "response", ("noun", "verb"))
    on_teacher, on_student, count = label_spans(choice, one, student(sides[1], cut))

    seen = max((b for _, b in sides[1]), default=0) if cut else len(TEXT)
    kept: list[tuple[int, int]] = []
    for a, b in sorted(phrases[0] + phrases[1], key=lambda span: (span[0] - span[1], span[0])):
        if prompt_end <= a < b <= seen and all(b <= c or d <= a for c, d in kept):
            kept.append((a, b))
    ends = [[b for _, b in side] for side in sides]
    common = [span for span in sorted(kept) if all(any(span[0] < b <= span[1] for b in side) for side in ends)]
    assert count == len(common)
    for found, side in zip((on_teacher, on_student), ends, strict=True):
        assert found.tolist() == [next((k for k, (c, d) in enumerate(common) if c < b <= d), -1) for b in side]

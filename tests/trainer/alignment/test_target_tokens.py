"""Which range every target belongs to, against the rule written as a search from token to token."""

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.cache.targets import NO_TARGETS, range_of
from tests.trainer.alignment.samples import Ranges, ranges, sample
from trainer.alignment.student_text import StudentText
from trainer.alignment.target_tokens import label_targets, target_labels, teacher_target

# "ask A ask B": what is answered is A at 4 and B at 10, each with the space before it.
TEXT, ANSWERS = "ask A ask B", ranges([(3, 5), (9, 11)])
TEACHER: Ranges = [(0, 0), (0, 3), (3, 5), (5, 9), (9, 11)]


def labels(tokens: Ranges, target: str, targets: np.ndarray = ANSWERS) -> list[int]:
    found: list[int] = target_labels(ranges(tokens)[:, 1], np.array([mark == "x" for mark in target]), targets).tolist()
    return found


def test_a_token_belongs_to_the_range_that_it_ends_in() -> None:
    assert labels(TEACHER, "..x.x") == [-1, -1, 0, -1, 1]
    assert labels([(0, 3), (3, 4), (4, 5), (5, 10), (10, 11)], ".xx.x") == [-1, 0, 0, -1, 1]
    assert labels([(0, 4), (4, 10), (10, 11)], "xxx") == [0, 1, 1]  # a token may begin in another range, or in none


def test_a_students_own_marks_go_with_the_targets_beside_them() -> None:
    """Its template writes a mark before an answer and one behind it, of which no character is in the teacher's text."""
    own: Ranges = [(0, 3), (0, 0), (3, 5), (0, 0), (0, 0), (5, 9), (0, 0), (9, 11), (0, 0)]
    assert labels(own, ".xxx..xxx") == [-1, 0, 0, 0, -1, -1, 1, 1, 1]
    # Where two answers meet, a mark between them belongs to the one that follows.
    assert labels([(3, 5), (0, 0), (9, 11)], "xxx") == [0, 1, 1]
    # Marks alone are of the range after the last that was seen: the student was cut there.
    assert labels([(3, 5), (5, 9), (0, 0)], "x.x") == [0, -1, 1]


def test_an_end_of_sequence_belongs_to_the_last_range() -> None:
    assert labels([*TEACHER, (0, 0)], "..x.xx") == [-1, -1, 0, -1, 1, 1]
    assert labels([*TEACHER, (0, 0)], "..x..x", ANSWERS[:1]) == [-1, -1, 0, -1, -1, 0]  # behind text that is no target
    assert labels([*TEACHER[:2], (0, 0)], "..x", NO_TARGETS) == [-1, -1, 0]  # all that is learnt of an empty response
    assert labels([], "", NO_TARGETS) == []


def test_both_sides_of_a_sample() -> None:
    one = replace(sample(TEXT, TEACHER), targets=ANSWERS)
    fed = replace(sample(TEXT, [*TEACHER, (11, 11)]), targets=ANSWERS)
    own: Ranges = [(0, 4), (4, 5), (6, 9), (9, 10), (10, 11), (0, 0)]
    text = StudentText(np.arange(6), ranges(own), np.array([False, True, False, True, True, True]), 5, False)
    teacher, student = label_targets(one, text)
    assert teacher.tolist() == [-1, -1, 0, -1, 1] and student.tolist() == [-1, 0, -1, 1, 1, 1]
    assert teacher.dtype == student.dtype == np.int64
    assert teacher_target(fed).tolist() == [False, False, True, False, True, True]
    assert label_targets(fed, text)[0].tolist() == [-1, -1, 0, -1, 1, 1]


def by_search(ends: list[int], target: list[bool], targets: np.ndarray) -> list[int]:
    located = np.where(target, range_of(np.array(ends, int), targets), -1).tolist()
    found = list[int]()
    for place, wanted in enumerate(target):
        after = place
        while after < len(target) and target[after] and located[after] < 0:
            after += 1
        before = place
        while before >= 0 and target[before] and located[before] < 0:
            before -= 1
        if not wanted:
            found.append(-1)
        elif after < len(target) and target[after]:
            found.append(located[after])
        elif before >= 0 and target[before]:
            found.append(located[before])
        else:
            found.append(min(max(found[: max(before, 0)], default=-1) + 1, max(len(targets) - 1, 0)))
    return found


tokens = st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.booleans()), max_size=14)
places = st.sets(st.integers(0, 25), max_size=8).map(sorted)


@given(tokens, places)
@settings(deadline=None, max_examples=300)
def test_it_is_what_a_search_finds(given_tokens: list[tuple[int, bool, bool]], found: list[int]) -> None:
    targets = ranges(list(zip(found[::2], found[1::2], strict=False)))
    ends = np.cumsum([length for length, _, _ in given_tokens], dtype=np.int64)
    ends[np.array([special for _, special, _ in given_tokens], bool)] = 0
    target = [wanted for _, _, wanted in given_tokens]
    assert target_labels(ends, np.array(target, bool), targets).tolist() == by_search(ends.tolist(), target, targets)


@given(tokens)
@settings(deadline=None)
def test_of_one_range_every_target_is_part(given_tokens: list[tuple[int, bool, bool]]) -> None:
    ends, target = np.array([e for e, _, _ in given_tokens], int), np.array([x for _, _, x in given_tokens], bool)
    for targets in (ranges([(2, 9)]), NO_TARGETS):
        assert target_labels(ends, target, targets).tolist() == np.where(target, 0, -1).tolist()

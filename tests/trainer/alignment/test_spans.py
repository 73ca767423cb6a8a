"""Alignment on synthetic tokenizations, against the definitions written as plain loops."""

import time
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.cache.targets import NO_TARGETS, ends_inside
from schemas.errors import TokenizerError
from trainer.alignment.spans import (
    aligned_spans,
    check_offsets,
    common_spans,
    coverage,
    resolve_overlaps,
    shared_out,
    span_labels,
)

Ranges = list[tuple[int, int]]


def array(ranges: Ranges) -> np.ndarray:
    return np.array(ranges, np.int32).reshape(-1, 2)


def after(start: int) -> np.ndarray:
    """All that ends behind a character is learnt."""
    return array([(start, 10**6)])


@st.composite
def tokenizations(draw: st.DrawFn, text: str, whole_characters: bool = False) -> np.ndarray:
    """Cuts between bytes, as byte-level tokenizers make them; some tokens are trimmed, dropped or special."""
    owner = [place for place, letter in enumerate(text) for _ in letter.encode()]
    cuts = list(range(1, len(owner)))
    if whole_characters:
        cuts = [cut for cut in cuts if owner[cut] != owner[cut - 1]]
    chosen = sorted(draw(st.sets(st.sampled_from(cuts)))) if cuts else []
    ranges: Ranges = []
    for low, high in zip([0, *chosen], [*chosen, len(owner)], strict=True):
        start, end = owner[low], owner[high - 1] + 1
        what = "token" if whole_characters else draw(st.sampled_from(["token"] * 8 + ["trimmed", "dropped", "special"]))
        if what == "special":
            ranges.append((0, 0) if draw(st.booleans()) else (start, start))
        if what != "dropped":
            ranges.append((start + 1, end) if what == "trimmed" and end - start > 1 else (start, end))
    return array(ranges)


@st.composite
def two_sides(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int]:
    text = draw(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30))
    return draw(tokenizations(text)), draw(tokenizations(text)), draw(st.integers(0, len(text)))


@st.composite
def two_partitions(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    text = draw(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30))
    return draw(tokenizations(text, True)), draw(tokenizations(text, True))


def naive_boundaries(teacher: Ranges, student: Ranges, start: int) -> list[int]:
    tokens = [(a, b) for a, b in [*teacher, *student] if a < b]
    both = {b for a, b in teacher if a < b} & {b for a, b in student if a < b}
    return [e for e in sorted(both) if e > start and not any(a < e < b for a, b in tokens)]


def naive_labels(ranges: Ranges, boundaries: list[int], start: int) -> list[int]:
    labels = []
    for a, b in ranges:
        later = [i for i, e in enumerate(boundaries) if e >= b]
        labels.append(later[0] if a < b and b > start and later else -1)
    return labels


def two_pointer_walk(teacher: Ranges, student: Ranges) -> Iterator[tuple[list[int], list[int]]]:
    """SRA's reference walk over end offsets: (teacher tokens, student tokens) of each span."""
    i = j = done_i = done_j = 0
    while i < len(teacher) and j < len(student):
        if teacher[i][1] == student[j][1]:
            i, j = i + 1, j + 1
            yield list(range(done_i, i)), list(range(done_j, j))
            done_i, done_j = i, j
        elif teacher[i][1] < student[j][1]:
            i += 1
        else:
            j += 1


def longest_common_subsequence(first: list[int], second: list[int]) -> int:
    table = [[0] * (len(second) + 1) for _ in range(len(first) + 1)]
    for i, a in enumerate(first):
        for j, b in enumerate(second):
            table[i + 1][j + 1] = table[i][j] + 1 if a == b else max(table[i][j + 1], table[i + 1][j])
    return table[-1][-1]


@given(two_sides())
@settings(deadline=None, max_examples=150)
def test_labels_are_the_definition(sides: tuple[np.ndarray, np.ndarray, int]) -> None:
    teacher, student, start = sides
    boundaries = naive_boundaries(teacher.tolist(), student.tolist(), start)
    on_teacher, on_student, count = aligned_spans(teacher, student, after(start))
    assert count == len(boundaries)
    assert on_teacher.tolist() == naive_labels(teacher.tolist(), boundaries, start)
    assert on_student.tolist() == naive_labels(student.tolist(), boundaries, start)
    assert on_teacher.dtype == on_student.dtype == np.int64


@given(two_partitions())
@settings(deadline=None, max_examples=100)
def test_on_whole_characters_it_is_the_reference_walk_and_the_longest_common_subsequence(
    sides: tuple[np.ndarray, np.ndarray],
) -> None:
    teacher, student = sides
    on_teacher, on_student, count = aligned_spans(teacher, student)
    walked = list(two_pointer_walk(teacher.tolist(), student.tolist()))
    assert walked == [
        (np.flatnonzero(on_teacher == k).tolist(), np.flatnonzero(on_student == k).tolist()) for k in range(count)
    ]
    assert count == longest_common_subsequence(teacher[:, 1].tolist(), student[:, 1].tolist())
    whole = array([(0, int(teacher[-1, 1]))])
    assert coverage(teacher, on_teacher, whole) == coverage(student, on_student, whole) == 1.0


@given(two_sides())
@settings(deadline=None, max_examples=100)
def test_no_character_stands_in_two_spans(sides: tuple[np.ndarray, np.ndarray, int]) -> None:
    teacher, student, start = sides
    on_teacher, on_student, _ = aligned_spans(teacher, student, after(start))
    owner: dict[int, int] = {}
    for offsets, labels in ((teacher, on_teacher), (student, on_student)):
        for (a, b), label in zip(offsets.tolist(), labels.tolist(), strict=True):
            for character in range(a, b) if label >= 0 else ():
                assert owner.setdefault(character, label) == label


@given(two_sides(), st.integers(1, 8))
@settings(deadline=None, max_examples=100)
def test_too_many_spans_are_merged_uniformly(sides: tuple[np.ndarray, np.ndarray, int], most: int) -> None:
    teacher, student, start = sides
    fine = aligned_spans(teacher, student, after(start))
    on_teacher, on_student, count = aligned_spans(teacher, student, after(start), most)
    assert count == min(most, fine[2])
    group = {-1: -1}
    for labels, merged in ((fine[0], on_teacher), (fine[1], on_student)):
        for a, b in zip(labels.tolist(), merged.tolist(), strict=True):
            assert group.setdefault(a, b) == b  # fine spans stay whole, and both sides agree
    sizes = [list(group.values()).count(k) for k in range(count)]
    assert sum(sizes) == fine[2]
    assert not sizes or max(sizes) - min(sizes) <= 1
    assert [group[k] for k in range(fine[2])] == sorted(group[k] for k in range(fine[2]))


def test_the_example_of_two_space_conventions() -> None:
    # "Hello brave world": the first side owns leading spaces, the second drops them, has specials, and cuts "brave".
    teacher = array([(0, 5), (5, 11), (11, 17)])
    student = array([(0, 0), (0, 5), (6, 8), (8, 11), (12, 15), (15, 17), (0, 0)])
    on_teacher, on_student, count = aligned_spans(teacher, student)
    assert (on_teacher.tolist(), on_student.tolist(), count) == ([0, 1, 2], [-1, 0, 1, 1, 2, 2, -1], 3)


def test_a_token_across_the_prompt_s_end_belongs_to_the_response() -> None:
    # "Q: yes no" with the prompt "Q: ": " yes" holds the prompt's last space, on the other side a token of its own.
    teacher = array([(0, 2), (2, 6), (6, 9)])
    student = array([(0, 2), (2, 3), (3, 6), (6, 9)])
    on_teacher, on_student, count = aligned_spans(teacher, student, after(3))
    assert (on_teacher.tolist(), on_student.tolist(), count) == ([-1, 0, 1], [-1, -1, 0, 1], 2)


@given(two_sides(), st.sets(st.integers(0, 30), max_size=6).map(sorted), st.one_of(st.none(), st.integers(1, 5)))
@settings(deadline=None, max_examples=200)
def test_spans_of_several_targets_are_those_of_each(
    sides: tuple[np.ndarray, np.ndarray, int], places: list[int], most: int | None
) -> None:
    """No span reaches from one range into the next; what ends in none has no label."""
    teacher, student, _ = sides
    targets = array(list(zip(places[::2], places[1::2], strict=False)))
    on_teacher, on_student, count = aligned_spans(teacher, student, targets, None)
    wanted, seen = [np.full(len(side), -1) for side in (teacher, student)], 0
    for each in targets:
        found = aligned_spans(teacher, student, each[None])
        for side, label in zip(wanted, found[:2], strict=True):
            assert (side[label >= 0] == -1).all()
            side[label >= 0] = label[label >= 0] + seen
        seen += found[2]
    assert (wanted[0].tolist(), wanted[1].tolist(), seen) == (on_teacher.tolist(), on_student.tolist(), count)
    for offsets, labels in ((teacher, on_teacher), (student, on_student)):
        assert ends_inside(offsets[labels >= 0, 1], targets).all()
    merged = aligned_spans(teacher, student, targets, most)
    assert [(part >= 0).tolist() for part in merged[:2]] == [(on_teacher >= 0).tolist(), (on_student >= 0).tolist()]
    if most is None or count <= most:
        assert merged[2] == count


@given(two_sides(), st.sets(st.integers(0, 30), max_size=8).map(sorted), st.integers(1, 6))
@settings(deadline=None, max_examples=200)
def test_the_spans_of_several_targets_are_merged_within_each(
    sides: tuple[np.ndarray, np.ndarray, int], places: list[int], most: int
) -> None:
    """By the rule, range after range: q = max(1, floor(most n_r / n)) groups, span i in group i q // n_r."""
    teacher, student, _ = sides
    targets = array(list(zip(places[::2], places[1::2], strict=False)))
    alone = [aligned_spans(teacher, student, each[None]) for each in targets]
    total, first = sum(found[2] for found in alone), 0
    wanted = [np.full(len(side), -1) for side in (teacher, student)]
    for *labels, own in alone:
        groups = own if total <= most else max(1, int(Fraction(most * own, total)))
        for side, label in zip(wanted, labels, strict=True):
            for token in np.flatnonzero(label >= 0):
                side[token] = first + int(Fraction(int(label[token]) * groups, own))
        first += groups if own else 0
    on_teacher, on_student, count = aligned_spans(teacher, student, targets, most)
    assert (on_teacher.tolist(), on_student.tolist(), count) == (wanted[0].tolist(), wanted[1].tolist(), first)
    some = [found for found in alone if found[2]]
    assert count <= min(most, total) + sum(most * found[2] < total for found in some)
    for k in range(count):
        assert sum(bool((found[0][on_teacher == k] >= 0).any()) for found in alone) == 1


@given(st.integers(1, 60), st.integers(1, 60))
def test_one_range_is_merged_as_a_response_was(count: int, most: int) -> None:
    """The code of before there were several targets."""
    if count > most:
        group_K, groups = shared_out([0, count, 0], most)
        assert group_K[:-1].tolist() == (np.arange(count) * most // count).tolist() and groups == most


def test_bytes_of_one_character_are_one_span() -> None:
    # "é漢" in bytes: the middle token closes é and opens 漢.
    teacher = array([(0, 1), (0, 2), (1, 2), (1, 2)])
    whole = array([(0, 1), (1, 2)])
    on_teacher, on_student, count = aligned_spans(teacher, whole)
    assert (on_teacher.tolist(), on_student.tolist(), count) == ([0, 0, 0, 0], [0, 0], 1)


def test_sides_without_a_common_end_have_no_spans() -> None:
    nothing = np.zeros((0, 2), np.int32)
    for teacher, student in ((array([(0, 3)]), array([(0, 2)])), (nothing, array([(0, 2)])), (nothing, nothing)):
        on_teacher, on_student, count = aligned_spans(teacher, student, after(1), max_spans=4)
        assert on_teacher.tolist() == [-1] * len(teacher)
        assert on_student.tolist() == [-1] * len(student)
        assert count == 0


def test_coverage_of_several_targets_counts_the_characters_of_all() -> None:
    offsets, targets = array([(0, 4), (4, 8), (8, 12), (12, 20)]), array([(0, 6), (6, 12), (13, 17)])
    labels, _, count = aligned_spans(offsets, offsets, targets)
    assert (labels.tolist(), count) == ([0, 1, 2, -1], 3)
    assert coverage(offsets, labels, targets) == (4 + 6 + 0) / 16


def test_coverage_counts_characters_up_to_the_last_common_end() -> None:
    teacher, student = array([(0, 4), (4, 8), (8, 12)]), array([(0, 4), (4, 8), (8, 10)])  # the student was cut
    learnt = array([(2, 12)])
    on_teacher, on_student, _ = aligned_spans(teacher, student, learnt)
    assert coverage(teacher, on_teacher, learnt) == coverage(student, on_student, learnt) == 0.6
    assert coverage(teacher, np.full(3, -1), learnt) == 0.0
    assert coverage(teacher, on_teacher, NO_TARGETS) == 1.0


spans = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 12)), max_size=25).map(
    lambda pairs: array([(start, start + length) for start, length in pairs])
)


@given(spans)
@settings(deadline=None, max_examples=150)
def test_overlaps_go_to_the_longest_then_the_first(candidates: np.ndarray) -> None:
    kept: Ranges = []
    for a, b in sorted(map(tuple, candidates.tolist()), key=lambda span: (span[0] - span[1], span[0])):
        if a < b and all(b <= c or d <= a for c, d in kept):
            kept.append((a, b))
    assert resolve_overlaps(candidates).tolist() == [list(span) for span in sorted(kept)]


@given(two_sides(), spans)
@settings(deadline=None, max_examples=100)
def test_a_token_belongs_to_the_span_it_ends_in(sides: tuple[np.ndarray, np.ndarray, int], found: np.ndarray) -> None:
    found = resolve_overlaps(found)
    expected = [
        next((k for k, (c, d) in enumerate(found.tolist()) if a < b and c < b <= d), -1) for a, b in sides[0].tolist()
    ]
    labels = span_labels(sides[0], found)
    assert labels.tolist() == expected and labels.dtype == np.int64


@given(st.integers(0, 12).flatmap(lambda n: st.tuples(*[st.lists(st.integers(-1, n - 1))] * 2, st.just(n))))
@settings(deadline=None)
def test_only_spans_with_tokens_on_both_sides_stay(case: tuple[list[int], list[int], int]) -> None:
    teacher, student, count = case
    both = sorted((set(teacher) & set(student)) - {-1})
    on_teacher, on_student, kept = common_spans(np.array(teacher, int), np.array(student, int), count)
    assert kept == len(both)
    assert on_teacher.tolist() == [both.index(k) if k in both else -1 for k in teacher]
    assert on_student.tolist() == [both.index(k) if k in both else -1 for k in student]


@given(two_sides())
@settings(deadline=None)
def test_offsets_of_tokenizers_pass(sides: tuple[np.ndarray, np.ndarray, int]) -> None:
    length = int(sides[0][:, 1].max(initial=0))
    check_offsets(sides[0], length)
    if length:
        with pytest.raises(TokenizerError, match=f"of a text of {length - 1}"):
            check_offsets(sides[0], length - 1)


UNUSABLE = " of a text of 9: this tokenizer's offsets cannot be used; try another version of it"
REORDERED = ": this tokenizer reorders the text, and its offsets cannot be aligned"


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ([(0, 2), (-1, 3)], "token 1 claims characters -1 to 3" + UNUSABLE),
        ([(0, 2), (4, 3)], "token 1 claims characters 4 to 3" + UNUSABLE),
        ([(0, 2), (2, 10), (3, 11)], "token 1 claims characters 2 to 10" + UNUSABLE),
        (
            [(0, 0), (0, 5), (0, 0), (1, 4), (1, 3)],
            "token 3 ends at character 4, before an earlier token's end at 5" + REORDERED,
        ),
    ],
)
def test_unusable_offsets_are_named(ranges: Ranges, message: str) -> None:
    with pytest.raises(TokenizerError) as refused:
        check_offsets(array(ranges), 9)
    assert str(refused.value) == message


def test_offsets_may_touch_their_limits() -> None:
    check_offsets(array([(0, 0), (0, 5), (5, 5), (3, 5), (9, 9), (4, 9)]), 9)
    check_offsets(array([]), 0)


def test_it_is_fast_enough_for_every_sample_of_every_batch() -> None:
    generator = np.random.default_rng(0)
    sides = []
    for _ in range(2):
        ends = np.append(np.sort(generator.choice(np.arange(1, 1400), 299, replace=False)), 1400)
        sides.append(array(list(zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True))))
    best, learnt = float("inf"), after(400)
    for _ in range(300):
        begin = time.perf_counter()
        aligned_spans(sides[0], sides[1], learnt, 1024)
        best = min(best, time.perf_counter() - begin)
    assert best < 5e-4  # seconds; 5e-5 on an idle core

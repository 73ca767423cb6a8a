"""Fifty conversations, read by ten families of students from ten families of teachers, against truths made by hand."""

import re
from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

from schemas.cache.samples import CachedSample
from schemas.conversations.show import Shown
from schemas.conversations.template import ChatTemplate
from schemas.errors import TokenizerError
from tests.schemas.conversations.cases import CASES
from tests.schemas.conversations.families import FAMILIES, Family
from tests.schemas.conversations.record import Case, assistant, system, user
from tests.schemas.conversations.shown import said, show
from tests.schemas.conversations.truth import Choice, Refused, Truth, truth
from tests.tiny import KINDS, Kind
from tests.trainer.alignment.characters import BY_NAME, cached, characters, reader_of
from tests.trainer.alignment.samples import ranges
from tests.trainer.alignment.told import places_in, told
from trainer.alignment.student_conversation import ConversationReader
from trainer.alignment.student_text import StudentText, StudentTokenizer

ALL, LAST, CONTENTS = Choice(), Choice("last"), Choice("all", False, False)


def read_by(family: Family, sample: CachedSample) -> StudentText:
    (found,) = StudentTokenizer(characters(), 1 << 20, False, reader_of(family))([sample])
    return found


@cache
def taught(family: Family, number: int, choice: Choice) -> tuple[Truth, Shown] | None:
    """What a teacher reads of a case; None if its template refuses it, or nothing is to be learnt."""
    theirs, shown = truth(family, said(CASES[number]), choice), show(family, CASES[number], choice)
    return (theirs, shown) if isinstance(theirs, Truth) and isinstance(shown, Shown) else None


def samples_of(family: Family) -> Iterator[tuple[Case, Choice, Truth, Shown]]:
    for choice in (ALL, LAST, CONTENTS):
        for number, case in enumerate(CASES):
            if (found := taught(family, number, choice)) is not None:
                yield case, choice, *found


def compare(case: Case, theirs: Truth, own: Truth, found: StudentText, places: dict[int, tuple[int, int]]) -> None:
    """Tokens are characters of the student's text."""
    assert len(found.ids) == len(own.text)
    learnt = np.zeros(len(own.text), bool)
    for start, end in own.targets:
        learnt[start:end] = True
    learnt[:1] = False
    assert found.target.tolist() == learnt.tolist()
    for place, (start, end) in enumerate(found.offsets.tolist()):
        if place in places:
            assert (start, end) == places[place], (place, own.text[place])
        elif case.kind == "reasoning" and end:  # a tag in a content that both templates show whole
            assert end == start + 1 and theirs.text[start] == own.text[place]
            assert re.search(r"[<>/think\n]", own.text[place])
        else:
            assert (start, end) == (0, 0), (place, own.text[place])


# Each teaches itself and its neighbour in `make test`, and all of them in `make check`.
PAIRS = [
    pytest.param(
        teacher,
        student,
        marks=[] if (place - number) % len(FAMILIES) < 2 else pytest.mark.long,
        id=f"{teacher.name}-{student.name}",
    )
    for number, teacher in enumerate(FAMILIES)
    for place, student in enumerate(FAMILIES)
]


@pytest.mark.parametrize(("teacher", "student"), PAIRS)
def test_every_character_stands_for_the_one_that_the_truth_says(teacher: Family, student: Family) -> None:
    compared = 0
    for case, choice, theirs, shown in samples_of(teacher):
        heard = told(said(case), teacher, theirs, student)
        own = truth(student, heard.record, choice)
        if isinstance(own, Refused):
            continue
        found = read_by(student, cached(shown))
        if own.text == shown.text:
            assert not found.own_template
            assert found.offsets.tolist() == cached(shown).token_offsets.tolist()
        else:
            assert found.own_template
            compare(case, theirs, own, found, places_in(theirs, own, heard))
        compared += 1
    assert compared >= 95


@pytest.mark.parametrize("student", FAMILIES, ids=lambda family: family.name)
def test_what_the_students_template_refuses_names_the_sample(student: Family) -> None:
    for teacher in FAMILIES:
        for case, choice, theirs, shown in samples_of(teacher):
            own = truth(student, told(said(case), teacher, theirs, student).record, choice)
            if isinstance(own, Refused) and own.reason != "nothing":
                with pytest.raises(TokenizerError, match=r"^sample 's7': .*student"):
                    read_by(student, cached(shown))


@pytest.mark.parametrize("number", [5, 6])  # conversations of several turns
def test_a_conversation_cut_short_is_the_students_up_to_the_same_character(number: int) -> None:
    """Cut in a content, in words of the template, and right behind an end of turn."""
    found = taught(BY_NAME["llama3"], number, ALL)
    assert found is not None
    theirs, shown = found
    ends = [(turn.start, turn.end) for turn in theirs.turns if turn.part == "end"]
    contents = [turn for turn in theirs.turns if turn.part == "content"]
    for cut in range(theirs.targets[0][0] + 1, theirs.targets[-1][1]):
        if any(start < cut < end for start, end in ends):  # a marker is one token, which is not cut
            continue
        read = read_by(BY_NAME["zephyr"], cached(shown, cut))
        tied = [end for end in ends if end[1] <= cut]
        tied += [(place, place + 1) for turn in contents for place in range(turn.start, min(turn.end, cut))]
        learnt = [place for place in tied if any(start < place[1] <= end for start, end in theirs.targets)]
        read_so_far = sorted(place for place in tied if place <= max(learnt))  # nothing is read behind the last target
        assert [(start, end) for start, end in read.offsets.tolist() if end] == read_so_far
        assert read.offsets[-1].tolist() == list(max(learnt)) and read.length == len(read.ids)
        assert [(start, end) for start, end in read.offsets[read.target].tolist() if end] == sorted(learnt)


def test_a_template_that_shows_contents_twice_or_elsewhere_ties_each_once() -> None:
    """The end of the question again before the answer, and a system message behind the question."""
    again = (
        "{% for m in messages %}{% if m.role == 'system' %}{% elif m.role == 'user' %}{{ m.content }}"
        "{{ '|' + m.content[-3:] + '|' + (messages[0].content if messages[0].role == 'system' else '') }}"
        "{% else %}{{ m.content + '</s>' }}{% endif %}{% endfor %}"
    )
    reader = ConversationReader(ChatTemplate(again), ("</s>",))
    case = Case("", "", {"messages": [system("Be kind."), user("Who is it?"), assistant("It is me.")]})
    shown = show(BY_NAME["chatml"], case, ALL)
    assert isinstance(shown, Shown)
    (found,) = StudentTokenizer(characters(), 99, False, reader)([cached(shown)])
    places = [shown.text.index(content) for content in ("Who is it?", "It is me.")]
    tied = [(place + k, place + k + 1) for place, length in zip(places, (10, 9), strict=True) for k in range(length)]
    end = (len(shown.text) - len("<|im_end|>"), len(shown.text))
    nothing = [(0, 0)] * len("|it?|Be kind.")
    assert [*map(tuple, found.offsets.tolist())] == [*tied[:10], *nothing, *tied[10:], *[(0, 0)] * 3, end]


def test_what_the_template_rewrites_of_a_target_is_refused() -> None:
    """Not of a question, which is not learnt."""
    for role, is_refused in (("assistant", True), ("user", False)):
        source = (
            "{% for m in messages %}{{ m.content | replace('i', 'ii') if m.role == '" + role + "' else m.content }}"
        )
        reader = ConversationReader(ChatTemplate(source + "</s>{% endfor %}"), ("</s>",))
        case = Case("", "", {"messages": [user("Who is it?"), assistant("It is me.")]})
        shown = show(BY_NAME["chatml"], case, ALL)
        assert isinstance(shown, Shown)
        tokenize = StudentTokenizer(characters(), 99, False, reader)
        if is_refused:
            with pytest.raises(TokenizerError, match=r"^sample 's7': the student's chat template rewrites the content"):
                tokenize([cached(shown)])
        else:
            assert len(tokenize([cached(shown)])[0].ids) == len("Who iis iit?</s>It is me.</s>")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("teacher", "student"), [("llama3", "zephyr"), ("chatml", "gemma3"), ("zephyr", "qwen25")])
def test_a_token_stands_for_those_of_its_characters_that_are_of_the_content_it_ends_in(
    tiny: dict[str, PreTrainedTokenizerFast], kind: Kind, teacher: str, student: str
) -> None:
    """Real tokens: across the border of a content, inside a character, and around white space."""
    theirs_by, own_by, crossing, partial = BY_NAME[teacher], BY_NAME[student], 0, 0
    for case, choice, theirs, shown in samples_of(theirs_by):
        heard = told(said(case), theirs_by, theirs, own_by)
        own = truth(own_by, heard.record, choice)
        if isinstance(own, Refused) or case.kind == "reasoning" or own.text == shown.text:
            continue
        places = places_in(theirs, own, heard)
        contents = {place for place, (start, end) in places.items() if end - start == 1}
        encoded = tiny[kind](own.text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        found = reader_of(own_by).read(cached(shown)).in_teacher(ranges(encoded)).tolist()
        for number, (start, end) in enumerate(encoded):
            last = places.get(end - 1, (0, 0)) if start < end else (0, 0)
            inside = [place for place in range(start, end) if place in contents]
            if end - 1 in contents:
                assert found[number] == [places[inside[0]][0], last[1]]
                crossing += len(inside) < end - start
                partial += number > 0 and encoded[number - 1] == (start, end)
            else:
                assert found[number] == list(last)
    assert crossing > 0 or kind != "bpe"
    assert partial > 0 or kind in ("unigram", "wordpiece")

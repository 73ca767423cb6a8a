"""Which target the tokens of a student's own template belong to: that of the message which a hand-made truth says."""

import re

import numpy as np
import pytest

from schemas.cache.samples import CachedSample
from schemas.cache.targets import ends_inside
from schemas.cache.token_rows import every_row
from schemas.conversations.show import Shown
from schemas.conversations.template import ChatTemplate
from schemas.errors import TokenizerError
from tests.schemas.conversations.cases import CASES
from tests.schemas.conversations.families import FAMILIES, Family
from tests.schemas.conversations.record import Case
from tests.schemas.conversations.shown import said, show
from tests.schemas.conversations.truth import CHOICES, Truth, truth
from trainer.alignment.student_conversation import ConversationReader
from trainer.alignment.target_tokens import target_labels

NONE = np.empty((0, 2), np.int32)
NAMED = {family.name: family for family in FAMILIES}


def cut(text: str, special: tuple[str, ...]) -> np.ndarray:
    """Tokens [n, 2]: special ones, up to four letters with the space before them, and every other character."""
    marks = "|".join(map(re.escape, sorted(special, key=len, reverse=True)))
    found = [match.span() for match in re.finditer(rf"{marks}|\s?\w{{1,4}}|\s|.", text, re.S)]
    return np.array(found, np.int32).reshape(-1, 2)


def cached(shown: Shown, family: Family) -> CachedSample:
    offsets, targets = cut(shown.text, family.special), np.array(shown.targets, np.int32).reshape(-1, 2)
    ids, rows = np.arange(len(offsets), dtype=np.int32), every_row(len(offsets))
    return CachedSample(
        "x", shown.text, targets, False, ids, offsets, rows, NONE, NONE, NONE, tuple(shown.turns), shown.structure
    )


def messages(wanted: Truth) -> list[int]:
    """Of every target the message whose part it is."""
    found = []
    for start, end in wanted.targets:
        (message,) = {turn.message for turn in wanted.turns if start <= turn.start and turn.end <= end}
        found.append(message)
    return found


def compare(teacher: Family, student: Family, case: Case, reader: ConversationReader) -> int:
    """How many of the student's targets were compared."""
    shown, choice = show(teacher, case, CHOICES[0]), CHOICES[0]
    ours, theirs = truth(student, said(case), choice), truth(teacher, said(case), choice)
    if not (isinstance(shown, Shown) and isinstance(ours, Truth) and isinstance(theirs, Truth) and shown.targets):
        return 0
    try:
        own = reader.read(cached(shown, teacher))
    except TokenizerError:
        return 0
    if own.text != ours.text:  # what the teacher's template dropped, the student cannot be shown
        return 0
    offsets, targets = cut(own.text, student.special), np.array(theirs.targets)
    target = ends_inside(offsets[:, 1], own.targets) & (np.arange(len(offsets)) > 0)
    labels = target_labels(own.in_teacher(offsets)[:, 1], target, targets)
    assert ((labels >= 0) == target).all()
    for (start, end), message in zip(ours.targets, messages(ours), strict=True):
        inside = target & (start < offsets[:, 1]) & (offsets[:, 1] <= end)
        assert {messages(theirs)[label] for label in set(labels[inside].tolist())} == {message}
    return len(ours.targets)


@pytest.mark.parametrize("student", ["chatml", "gemma3", "llama3"])
@pytest.mark.parametrize("teacher", ["qwen3", "mistral", "deepseek_r1"])
def test_every_target_is_that_of_the_same_message(teacher: str, student: str) -> None:
    theirs, own = NAMED[teacher], NAMED[student]
    named = {"bos_token": own.bos or "", "eos_token": own.eos}
    reader = ConversationReader(ChatTemplate(own.template, named, own.arguments), own.special)
    assert sum(compare(theirs, own, case, reader) for case in CASES) > 40

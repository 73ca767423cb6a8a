"""Fifty conversations in ten families of templates: text, targets, turns and what is dropped, by hand and by code."""

import pytest

from schemas.conversations.show import Shown
from schemas.conversations.template import TemplateRefusal
from tests.schemas.conversations.cases import CASES
from tests.schemas.conversations.families import FAMILIES, Family
from tests.schemas.conversations.record import Case
from tests.schemas.conversations.shown import said, show
from tests.schemas.conversations.truth import CHOICES, Choice, Refused, Truth, truth


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.kind}-{case.name}")
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_targets_are_those_made_by_hand(family: Family, case: Case) -> None:
    for choice in CHOICES:
        wanted, found = truth(family, said(case), choice), show(family, case, choice)
        if isinstance(wanted, Refused):
            if wanted.reason == "nothing":
                assert isinstance(found, Shown) and not found.targets
            else:
                assert isinstance(found, TemplateRefusal), (choice, wanted)
            continue
        assert isinstance(wanted, Truth) and isinstance(found, Shown), (choice, found)
        assert found.text == wanted.text
        assert list(found.targets) == wanted.targets, choice
        turns = [(turn.message, turn.role, turn.part, turn.start, turn.end) for turn in found.turns]
        assert turns == [(turn.message, turn.role, turn.part, turn.start, turn.end) for turn in wanted.turns], choice
        assert set(found.dropped) == wanted.dropped, choice
        assert {part for part in found.rewritten if part[1] != "tool_calls"} == wanted.rewritten, choice


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_an_answer_of_weight_0_is_shown_and_not_learnt(family: Family) -> None:
    turns = [("user", "one?"), ("assistant", "first"), ("user", "two?"), ("assistant", "second")]
    messages = [{"role": role, "content": content} for role, content in turns]
    unlearnt = [message | ({"weight": 0} if number == 1 else {}) for number, message in enumerate(messages)]
    every = show(family, Case("weights", "all", {"messages": messages}), Choice())
    one = show(family, Case("weights", "one", {"messages": unlearnt}), Choice())
    assert isinstance(every, Shown) and isinstance(one, Shown)
    assert one.text == every.text and one.targets == every.targets[1:] and one.turns == every.turns

"""The hand-made truth shows what transformers shows, and marks what the rules of targets say."""

from itertools import pairwise
from typing import Any

import pytest

from tests.schemas.conversations.cases import CASES
from tests.schemas.conversations.families import FAMILIES, Family
from tests.schemas.conversations.record import Case, assistant, user
from tests.schemas.conversations.templates import rendered
from tests.schemas.conversations.truth import CHOICES, WRITERS, Choice, Refused, Truth, truth, uncut

BY_NAME = {family.name: family for family in FAMILIES}
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.kind}: {case.name}")
every_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)


def test_fifty_conversations_of_ten_kinds() -> None:
    kinds = [case.kind for case in CASES]
    assert [kinds.count(kind) for kind in dict.fromkeys(kinds)] == [5] * 10
    assert len({(case.kind, case.name) for case in CASES}) == 50
    assert len(BY_NAME) == 10


@every_case
@every_family
def test_text_by_hand_is_that_of_the_template(family: Family, case: Case) -> None:
    assert uncut(family, case.record) == rendered(family, case.record)


@every_family
def test_generation_begins_where_the_prompt_ends(family: Family) -> None:
    """Wherever the text goes on as the prompt of the messages before it; an empty block of reasoning may follow."""
    compared = 0
    for case in CASES:
        text = uncut(family, case.record)
        if isinstance(text, Refused):
            continue
        for number, begin in WRITERS[family.name](case.record).begins.items():
            if case.record["messages"][number]["role"] == "assistant":
                prompt = rendered(family, before(case.record, number), generation_prompt=True)
                if isinstance(prompt, str) and text.startswith(prompt):
                    assert text[len(prompt) : begin].strip() in ("", "<think>\n\n</think>", "</think>")
                    compared += 1
    assert compared > 10


def before(record: dict[str, Any], number: int) -> dict[str, Any]:
    return {**record, "messages": record["messages"][:number]}


@every_family
def test_end_of_turn_is_what_follows_an_answer(family: Family) -> None:
    text = rendered(family, {"messages": [user("A"), assistant("B")]})
    assert isinstance(text, str)
    after = text[text.rindex("B") + 1 :]
    marker = next(token for token in family.special if after.startswith(token))
    found = truth(family, {"messages": [user("A"), assistant("B")]}, Choice())
    assert isinstance(found, Truth)
    assert found.text.endswith("B" + marker)


@every_case
@every_family
def test_only_what_assistants_say_is_learnt(family: Family, case: Case) -> None:
    for choice in CHOICES:
        found = truth(family, case.record, choice)
        if isinstance(found, Truth):
            assert all(left < right for (_, left), (right, _) in pairwise(found.targets))
            assert found.targets[-1][1] == len(found.text)
            foreign = [turn for turn in found.turns if turn.role != "assistant"]
            assert not any(start < turn.end and turn.start < end for turn in foreign for start, end in found.targets)

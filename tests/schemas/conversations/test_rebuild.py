"""The conversation of a cached sample, rendered by the template that it was read in, is the cached text."""

import numpy as np
import pytest

from schemas.cache.samples import CachedSample
from schemas.conversations.rebuild import REASONING_KEY, rebuild
from schemas.conversations.show import Shown
from schemas.conversations.template import TemplateRefusal
from schemas.conversations.tracked import Origin, Run, runs_of
from tests.schemas.conversations.cases import CASES
from tests.schemas.conversations.families import FAMILIES, Family
from tests.schemas.conversations.readers import chosen, conversation_of_case, reader_of, show, template_of
from tests.schemas.conversations.record import assistant, call, result, tool, user
from tests.schemas.conversations.truth import CHOICES

KNOW_REASONING = ("qwen3",)
# Where a template shows an answer otherwise because of what is in no cache.
OTHERWISE = {
    "qwen3": {  # the last answer has a block of reasoning, and the ones after the last target are cut away
        ("many turns", "the user has the last word"),
        ("empty answers", "last"),
        ("empty answers", "blank"),
        ("reasoning", "other fields, no answer"),
    },
    "deepseek_r1": {  # line ends after a block that is dropped are shown, and are of neither part
        ("reasoning", "blocks"),
        ("reasoning", "empty blocks"),
        ("reasoning", "between calls"),
    },
}


def cached(shown: Shown) -> CachedSample:
    none = np.empty((0, 2), np.int32)
    targets = np.array(shown.targets, np.int32).reshape(-1, 2)
    tokens = np.empty(0, np.int32)
    return CachedSample(
        "s", shown.text, targets, False, tokens, none, none, none, none, none, shown.turns, shown.structure
    )


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_the_teachers_template_gives_the_teachers_text(family: Family) -> None:
    template, otherwise, compared = template_of(family), set[tuple[str, str]](), 0
    for case in CASES:
        for choice in CHOICES:
            try:
                shown = reader_of(family, chosen(choice)).show(conversation_of_case(case))
            except TemplateRefusal:
                continue
            if shown.targets:
                rebuilt = rebuild(cached(shown), inline=family.name not in KNOW_REASONING)
                same = template.render(rebuilt.messages, rebuilt.tools).text.startswith(shown.text)
                otherwise |= set() if same else {(case.kind, case.name)}
                compared += 1
    assert otherwise == OTHERWISE.get(family.name, set())
    assert compared >= 268


TRACE = (
    user("Q"), assistant("B", call("f", {"a": "b"}, "call00001"), reasoning_content="R"),
    result('"7"', "call00001"), assistant("C"),
)  # fmt: skip


def test_contents_are_the_teachers_and_know_their_places_in_its_text() -> None:
    shown = show("qwen3", *TRACE, tools=[tool("f", "F.")])
    rebuilt = rebuild(cached(shown), inline=False)
    assert rebuilt.messages == [
        {"role": "user", "content": "Q"},
        {"role": "assistant", "content": "B", REASONING_KEY: "R", "tool_calls": [call("f", {"a": "b"}, "call00001")]},
        {"role": "tool", "content": '"7"', "tool_call_id": "call00001"},
        {"role": "assistant", "content": "C"},
    ]
    assert (rebuilt.numbers, rebuilt.tools) == ([0, 1, 2, 3], (tool("f", "F."),))
    for turn in shown.turns:
        if turn.part in ("content", "reasoning"):
            text = rebuilt.messages[turn.message]["content" if turn.part == "content" else REASONING_KEY]
            assert runs_of(text) == (Run(0, len(text), Origin(turn.message, turn.part), turn.start),)
    name = rebuilt.messages[1]["tool_calls"][0]["function"]["name"]
    assert runs_of(name) == (Run(0, 1, Origin(1, "tool_calls"), None),)


def test_reasoning_stands_in_tags_for_a_template_that_knows_no_other() -> None:
    shown = show("qwen3", user("Q"), assistant("B", reasoning_content="R"))
    reasoning, content = (turn.start for turn in shown.turns if turn.part in ("reasoning", "content") and turn.message)
    (_, message) = rebuild(cached(shown), inline=True).messages
    assert message == {"role": "assistant", "content": "<think>\nR\n</think>\n\nB"}
    assert runs_of(message["content"]) == (
        Run(8, 9, Origin(1, "reasoning"), reasoning),
        Run(20, 21, Origin(1, "content"), content),
    )


def test_a_block_stays_where_it_stands() -> None:
    shown = show("chatml", user("Q"), assistant("\n<think>R</think>B"))
    for inline in (True, False):
        rebuilt = rebuild(cached(shown), inline)
        assert rebuilt.messages[1] == {"role": "assistant", "content": "\n<think>R</think>B"}
        assert rebuilt.sources[1].block == (8, 9, 17)
        (run,) = runs_of(rebuilt.messages[1]["content"])
        assert shown.text[run.place :].startswith("\n<think>R")


def test_what_was_rewritten_is_as_it_was_and_has_no_place() -> None:
    shown = show("llama3", *TRACE)
    rebuilt = rebuild(cached(shown), inline=True)
    assert rebuilt.messages[2]["content"] == '"7"'
    assert runs_of(rebuilt.messages[2]["content"]) == (Run(0, 3, Origin(2, "content"), None),)


def test_a_message_that_was_not_shown_is_left_out() -> None:
    rebuilt = rebuild(cached(show("phi3", *TRACE)), inline=True)
    assert rebuilt.numbers == [0, 1, 3]
    assert [message["content"] for message in rebuilt.messages] == ["Q", "B", "C"]


def test_a_structure_that_is_none_is_refused() -> None:
    sample = cached(Shown("", ((0, 0),), structure="[]"))
    with pytest.raises(ValueError, match="not an object of tools and messages"):
        rebuild(sample, inline=True)

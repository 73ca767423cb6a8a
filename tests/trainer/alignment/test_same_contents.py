"""Which tokens of one tokenizer are pairs, where two templates do not show the same: tokens are characters."""

from typing import Any

import numpy as np
import pytest

from schemas.conversations.show import Shown
from schemas.conversations.template import ChatTemplate
from tests.schemas.conversations.record import Case, assistant, call, result, system, tool, user
from tests.schemas.conversations.shown import show
from tests.schemas.conversations.truth import CHOICES
from tests.trainer.alignment.characters import BY_NAME, cached, characters, reader_of
from trainer.alignment.student_conversation import ConversationReader
from trainer.alignment.student_text import StudentTokenizer
from trainer.alignment.token_pairs import PairCoverage, measure_pairs, token_positions

CONTENTS = ["Be kind.", " Hi! ", "Hello.", "Go?", "Yes, go."]
TALK: list[dict[str, Any]] = [
    message(content) for message, content in zip([system, user, assistant, user, assistant], CONTENTS, strict=True)
]
SHOWN = "{{ '[' + m.role + ']' + CONTENT + ('</s>' if m.role == 'assistant' else '') }}"


def template(content: str = "m.content", unless: str = "false") -> ConversationReader:
    source = SHOWN.replace("CONTENT", content)
    return ConversationReader(
        ChatTemplate(f"{{% for m in messages %}}{{% if not ({unless}) %}}{source}{{% endif %}}{{% endfor %}}"),
        ("</s>",),
    )


def paired(reader: ConversationReader, messages: list[dict[str, Any]], **more: Any) -> tuple[list[int], str]:
    """The places in the teacher's text that are paired, and that text."""
    shown = show(BY_NAME["qwen25"], Case("", "", {"messages": messages, **more}), CHOICES[0])
    assert isinstance(shown, Shown)
    sample = cached(shown)
    (text,) = StudentTokenizer(characters(), 9999, False, reader)([sample])
    positions = token_positions(sample, text)
    targets, told = int(text.target[1:].sum()), int((text.target[1:] & (positions[:-1] >= 0)).sum())
    assert measure_pairs([(sample, text)]) == PairCoverage(targets, told, 0)
    found = positions[positions >= 0]
    assert np.array_equal(found, text.offsets[positions >= 0, 0])
    return found.tolist(), shown.text


def every(text: str, *contents: str) -> list[int]:
    """Places of these contents, one after the other; the last of each predicts words of a template."""
    found, start = list[int](), 0
    for content in contents:
        start = text.index(content, start)
        found += range(start, start + len(content) - 1)
    return found


@pytest.mark.parametrize(
    ("reader", "contents"),
    [
        (template(), CONTENTS),
        (template("m.content | trim"), [content.strip() for content in CONTENTS]),
        (template(unless="m.role == 'system'"), []),
        (template(unless="loop.index0 == 3"), CONTENTS[:3]),
    ],
    ids=["all", "trimmed", "no system message", "no second question"],
)
def test_pairs_have_read_the_same_contents(reader: ConversationReader, contents: list[str]) -> None:
    found, text = paired(reader, TALK)
    assert found == every(text, *contents)


def test_behind_tools_and_calls_that_are_not_shown_nothing_is_paired() -> None:
    talk = [user("Late?"), assistant("I look.", call("clock", {})), result("12:34"), assistant("Past noon.")]
    contents = ["Late?", "I look.", "12:34", "Past noon."]
    found, text = paired(template(), talk)
    assert found == every(text, *contents[:2])
    found, text = paired(reader_of(BY_NAME["qwen3"]), talk)
    assert set(every(text, *contents)) <= set(found)
    tools = [tool("clock", "The time.")]
    assert paired(template(), talk, tools=tools)[0] == []
    found, text = paired(reader_of(BY_NAME["qwen3"]), talk, tools=tools)
    assert set(every(text, *contents)) <= set(found)

"""Each part of a conversation is shown, rewritten or dropped."""

from typing import Any

import pytest

from schemas.conversations.fates import Fate, PartKey, find_fates, shows_tools
from schemas.conversations.parts import Markers, Parts, Source
from schemas.conversations.show import track
from schemas.conversations.speech import Speech
from schemas.conversations.template import ChatTemplate, Rendered
from tests.schemas.conversations.readers import talk
from tests.schemas.conversations.record import Message, assistant, call, result, tool, user

LINES = "{{% for m in messages %}}{{{{ {} }}}}\n{{% endfor %}}"


class Counted(ChatTemplate):
    """Counts its renderings."""

    renderings = 0

    def render(self, messages: Any, tools: Any = (), add_generation_prompt: bool = False) -> Rendered:
        Counted.renderings += 1
        return super().render(messages, tools, add_generation_prompt)


def fates(source: str, *messages: Message) -> dict[PartKey, Fate]:
    conversation = talk(messages)
    speech = Speech(Counted(source), [track(n, message) for n, message in enumerate(conversation.messages)])
    sources = [Source(m.role, m.content, has_field=m.reasoning_key is not None) for m in conversation.messages]
    parts = Parts(speech.rendered(), sources, speech, Markers((), None))
    return dict(find_fates(conversation.messages, [parts.of(n) for n in range(len(sources))], parts))


TALK = (user("Why?"), assistant("Because.", call("f", {}), reasoning_content="Hm."), result(" "), assistant(""))


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        ("m.content", ("shown", "dropped", "shown", "dropped")),
        ("m.content | trim", ("shown", "dropped", "shown", "dropped")),
        ("m.content | upper", ("rewritten", "dropped", "rewritten", "dropped")),
        ("m.content | tojson", ("rewritten", "dropped", "rewritten", "dropped")),
        ("m.content | length", ("rewritten", "dropped", "rewritten", "dropped")),
        ("m.content[1:] ~ m.content[:1]", ("rewritten", "dropped", "rewritten", "dropped")),
        ("m.content[1:]", ("shown", "dropped", "shown", "dropped")),
        ("(m.reasoning_content or '') ~ m.content", ("shown", "shown", "shown", "dropped")),
        ("m.thinking or ''", ("dropped", "shown", "dropped", "dropped")),
        ("m.tool_calls | length", ("dropped", "dropped", "dropped", "rewritten")),
        ("m.tool_calls[0].function.name if m.tool_calls", ("dropped", "dropped", "dropped", "rewritten")),
        ("m.role", ("dropped", "dropped", "dropped", "dropped")),
    ],
)
def test_what_becomes_of_a_part(shown: str, expected: tuple[Fate, ...]) -> None:
    """Of the question, the reasoning, the answer and its calls. What is blank says nothing and has no fate."""
    keys: tuple[PartKey, ...] = ((0, "content"), (1, "reasoning"), (1, "content"), (1, "tool_calls"))
    assert fates(LINES.format(shown), *TALK) == dict(zip(keys, expected, strict=True))


def test_a_block_of_the_content_is_reasoning() -> None:
    block = assistant("<think>Hm.</think>Because.")
    source = LINES.format("m.content.split('</think>')[-1]")
    assert fates(source, user("Why?"), block) == {
        (0, "content"): "shown", (1, "reasoning"): "dropped", (1, "content"): "shown",
    }  # fmt: skip


def test_an_alteration_that_is_refused_matters() -> None:
    source = "{% for m in messages %}{{ raise_exception('long') if m.content | length > 4 }}{% endfor %}"
    assert fates(source, user("Why?"), assistant("So.")) == {(0, "content"): "rewritten", (1, "content"): "dropped"}


def test_what_is_dropped_is_found_in_one_rendering() -> None:
    Counted.renderings = 0
    found = fates(LINES.format("m.role"), *[user("Why?"), assistant("So.")] * 50)
    assert set(found.values()) == {"dropped"} and len(found) == 100
    assert Counted.renderings == 2


def test_one_of_many_is_found_in_few_renderings() -> None:
    Counted.renderings = 0
    found = fates(LINES.format("m.content | upper if m.content == 'So 77.'"), *_numbered(100))
    assert [key for key, fate in found.items() if fate == "rewritten"] == [(77, "content")]
    assert Counted.renderings <= 2 + 2 * 7


def _numbered(number: int) -> list[Message]:
    return [assistant(f"So {n}.") if n % 2 else user(f"Why {n}?") for n in range(number)]


@pytest.mark.parametrize(
    ("source", "shows"),
    [("{{ tools | tojson }}", True), ("{{ messages[0].content }}", False), ("{{ tools[0].type }}", True)],
)
def test_whether_tools_are_shown(source: str, shows: bool) -> None:
    messages = [{"role": "user", "content": "Why?"}]
    speech = Speech(ChatTemplate(source), messages, (tool("f", "F."),))
    assert shows_tools(speech, speech.rendered().text) is shows
    assert not shows_tools(Speech(ChatTemplate(source), messages), "")

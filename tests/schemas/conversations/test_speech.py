"""What a template says before an answer: known without a rendering where it has been seen, and always the same."""

from typing import Any

import pytest

from schemas.conversations.conversation import Message
from schemas.conversations.show import track
from schemas.conversations.speech import Prompts, Speech
from schemas.conversations.template import ChatTemplate, TemplateRefusal
from tests.schemas.conversations.cases import CASES
from tests.schemas.conversations.families import FAMILIES, Family
from tests.schemas.conversations.readers import NAMED, conversation_of_case, talk, template_of
from tests.schemas.conversations.record import assistant, call, result, user

FOURFOLD = 4
KINDS = ("many turns", "system", "tools", "parallel calls", "reasoning")


class Counted(Speech):
    """Counts the prompts that it renders."""

    rendered_prompts = 0

    def prompt(self, message: int) -> str | None:
        type(self).rendered_prompts += 1
        return super().prompt(message)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_prompt_that_is_known_is_the_one_that_is_rendered(family: Family) -> None:
    Counted.rendered_prompts, asked = 0, 0
    for case in (case for case in CASES if case.kind in KINDS):
        conversation = conversation_of_case(case)
        first, *rest = conversation.messages
        begin, more = ([first], rest) if first.role == "system" else ([], [first, *rest])
        messages = [track(number, message) for number, message in enumerate([*begin, *more * FOURFOLD])]
        speech = Counted(template_of(family), messages, conversation.tools)
        prompts = Prompts(speech)
        for number in range(1, len(messages)):
            assert prompts.of(number) == Speech(speech.template, messages, speech.tools).prompt(number)
            asked += 1
    assert Counted.rendered_prompts < asked * 0.8


def trace(calls: int) -> list[dict[str, Any]]:
    """A question and that number of calls, each with its answer of another name."""
    turns = [
        turn
        for number in range(calls)
        for turn in (
            assistant(None, call("f", {"n": number}, f"call{number:05}")),
            result(f"{number}", f"call{number:05}"),
        )
    ]
    messages = talk([user("Go."), *turns, assistant("Done.")]).messages
    return [track(number, message) for number, message in enumerate(messages)]


@pytest.mark.parametrize("family", ["qwen3", "mistral", "deepseek_r1", "llama3"])
def test_the_prompts_of_a_long_trace_are_few(family: str) -> None:
    Counted.rendered_prompts = 0
    speech = Counted(template_of(NAMED[family]), trace(100))
    prompts = Prompts(speech)
    known = [prompts.of(number) for number in range(1, 201, 2)]
    assert Counted.rendered_prompts <= 8
    assert known == [Speech(speech.template, speech.messages).prompt(number) for number in range(1, 201, 2)]


def test_a_switch_of_thinking_is_heeded() -> None:
    source = (
        "{% set n = namespace(on=true) %}{% for m in messages %}<{{ m.content }}>"
        "{% if '/no_think' in m.content %}{% set n.on = false %}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<think>' if n.on else '<think></think>' }}{% endif %}"
    )
    said = ["Now /no_think." if number == 20 else "Say." for number in range(30)]
    prompts = Prompts(Speech(ChatTemplate(source), [track(n, Message("user", text)) for n, text in enumerate(said)]))
    assert [prompts.of(number) for number in range(1, 31)] == ["><think>"] * 20 + ["><think></think>"] * 10


def test_a_template_that_refuses_to_ask_has_no_prompt() -> None:
    speech = Speech(ChatTemplate("{{ raise_exception('no') if add_generation_prompt }}"), trace(9))
    assert [Prompts(speech).of(number) for number in (1, 3)] == [None, None]
    assert speech.rendered().text == ""
    with pytest.raises(TemplateRefusal, match=r"^the chat template refuses it: no$"):
        Speech(ChatTemplate("{{ raise_exception('no') }}"), trace(1)).rendered()

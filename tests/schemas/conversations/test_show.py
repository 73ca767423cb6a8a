"""What is kept of a conversation: its text up to the last target, its turns, and beside them what these do not say."""

import json
import pickle
import time
from dataclasses import replace
from typing import Any

import pytest

from schemas.conversations.conversation import Conversation, Message, ToolCall
from schemas.conversations.parts import Markers
from schemas.conversations.show import Reader, Shown
from schemas.conversations.targets import TargetChoice
from schemas.conversations.template import ChatTemplate, TemplateRefusal
from tests.schemas.conversations.readers import NAMED, reader_of, show, talk
from tests.schemas.conversations.record import assistant, call, result, system, tool, user

CALL = call("f", {"b": 1, "a": "ü"}, "call00001")
CLOCK = tool("get_time", "The time of day.")


def turns(shown: Shown) -> list[tuple[int, str, str, str]]:
    return [(turn.message, turn.role, turn.part, shown.text[turn.start : turn.end]) for turn in shown.turns]


def test_the_text_ends_with_the_last_target_and_turns_with_it() -> None:
    shown = show("chatml", user("Why?"), assistant("So."), user("And?"), assistant(""))
    assert shown.text == "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\nSo.<|im_end|>"
    assert shown.targets == ((54, 67),)
    assert turns(shown) == [
        (0, "user", "content", "Why?"),
        (1, "assistant", "content", "So."),
        (1, "assistant", "end", "<|im_end|>"),
    ]
    assert (shown.structure, shown.dropped, shown.rewritten) == ("", (), ())


def test_without_a_target_all_of_it_is_shown() -> None:
    shown = show("chatml", user("Why?"), assistant(" "))
    assert shown.targets == () and shown.text.endswith("assistant\n <|im_end|>\n")


def beside(shown: Shown) -> Any:
    return json.loads(shown.structure) if shown.structure else None


def test_calls_answers_that_are_rewritten_and_tools_are_kept_beside_the_text() -> None:
    messages = (user("Q"), assistant("", CALL), result('"7"', "call00001", name="f"), assistant("Seven."))
    found = beside(show("llama3", *messages, tools=[CLOCK]))
    assert found == {
        "tools": [CLOCK],
        "messages": {
            "1": {"role": "assistant", "tool_calls": [CALL]},
            "2": {"role": "tool", "name": "f", "tool_call_id": "call00001", "content": '"7"'},
        },
    }
    assert list(found["messages"]["1"]["tool_calls"][0]["function"]["arguments"]) == ["b", "a"]
    verbatim = beside(show("qwen3", *messages, tools=[CLOCK]))
    assert verbatim["messages"]["2"] == {"role": "tool", "name": "f", "tool_call_id": "call00001"}


def test_what_a_template_drops_is_nowhere() -> None:
    shown = show(
        "phi3", user("Q"), assistant("B", CALL, reasoning_content="R"), result("7"), assistant("C"), tools=[CLOCK]
    )
    assert shown.structure == ""
    assert sorted(shown.dropped) == [(1, "reasoning"), (1, "tool_calls"), (2, "content")]
    assert "7" not in shown.text


def test_what_comes_after_the_last_target_is_neither_dropped_nor_kept() -> None:
    shown = show("qwen3", user("Q"), assistant("B"), user("Q"), assistant("", CALL, reasoning_content="R"),
                 choice=TargetChoice(reasoning=False, tool_calls=False))  # fmt: skip
    assert shown.text.endswith("B<|im_end|>") and shown.targets != ()
    assert (shown.structure, shown.dropped, shown.rewritten) == ("", (), ())


def test_where_a_block_of_reasoning_stands_is_kept() -> None:
    shown = show("chatml", user("Q"), assistant("<think>R</think>B"))
    start, end = beside(shown)["messages"]["1"]["block"]
    assert shown.text[start:end] == "<think>R</think>B"
    assert [part for _, _, part, _ in turns(shown)] == ["content", "reasoning", "content", "end"]


def test_an_empty_message_that_is_shown_by_nothing_of_its_own_is_kept() -> None:
    found = beside(show("chatml", system(""), user(" "), assistant("B")))
    assert found == {"tools": [], "messages": {"0": {"role": "system", "content": ""}}}


def test_a_system_message_for_conversations_without() -> None:
    reader = reader_of(NAMED["chatml"], system="Be brief.")
    assert reader.show(talk([user("Q"), assistant("B")])).text.startswith("<|im_start|>system\nBe brief.<|im_end|>\n")
    for role in ("system", "developer"):
        own = talk([{"role": role, "content": "Be kind."}, user("Q"), assistant("B")])
        assert reader.show(own) == reader_of(NAMED["chatml"]).show(own)


@pytest.mark.parametrize(
    ("content", "choice", "said"),
    [
        (
            "Here: </think> it is.",
            TargetChoice(),
            "the chat template rewrites the content of message 2, so what is to be learnt of it cannot be located",
        ),
    ],
)
def test_a_target_that_cannot_be_located_is_refused(content: str, choice: TargetChoice, said: str) -> None:
    with pytest.raises(TemplateRefusal) as caught:
        show("qwen3", user("Q"), assistant(content), choice=choice)
    assert str(caught.value) == said


def reader(source: str, choice: TargetChoice | None = None) -> Reader:
    template = ChatTemplate(source)
    return Reader(template, Markers.of(template, ("</s>",)), choice or TargetChoice())


LINES = "{{% for m in messages %}}{{{{ {} }}}}</s>\n{{% endfor %}}"


def test_a_rewritten_answer_is_refused_unless_it_is_not_learnt() -> None:
    source = LINES.format("m.content | upper if m.content == 'So.' else m.content")
    first, last = [user("Why?"), assistant("So.")], [user("Q"), assistant("B")]
    with pytest.raises(TemplateRefusal, match="rewrites the content of message 2"):
        reader(source).show(talk([*first, *last]))
    shown = reader(source, TargetChoice("last")).show(talk([*first, *last]))
    assert shown.rewritten == ((1, "content"),) and shown.text == "Why?</s>\nSO.</s>\nQ</s>\nB</s>"
    assert beside(shown)["messages"] == {"1": {"role": "assistant", "content": "So."}}


def test_rewritten_reasoning_is_refused_unless_it_is_not_learnt() -> None:
    source = LINES.format("(m.reasoning | default('') | upper) ~ m.content")
    messages = talk([user("Q"), assistant("B", reasoning="R")])
    with pytest.raises(TemplateRefusal, match="rewrites the reasoning of message 2"):
        reader(source).show(messages)
    assert reader(source, TargetChoice(reasoning=False)).show(messages).rewritten == ((1, "reasoning"),)


def test_the_same_conversation_is_shown_the_same_and_stays_as_it_is() -> None:
    found = talk(
        [user("Q"), assistant("B", CALL, reasoning_content="R"), result("7", "call00001"), assistant("C")], [CLOCK]
    )
    same = replace(found)
    reader = reader_of(NAMED["qwen3"])
    first = reader.show(found)
    again = pickle.loads(pickle.dumps(reader))  # noqa: S301
    assert first == reader.show(found) == again.show(found) and found == same


def agent(number: int) -> Conversation:
    """A question per eight calls."""
    messages = list[Message]()
    while len(messages) < number:
        messages.append(Message("user", "Question " * 10))
        for k in range(8):
            name = f"call{k:05}"
            calls = (ToolCall("f", {"a": k, "b": "x" * 30}, name),)
            messages.append(Message("assistant", "", "think " * 30, calls, reasoning_key="reasoning_content"))
            messages.append(Message("tool", "result " * 20, tool_call_id=name))
        messages.append(Message("assistant", "Answer " * 30))
    return Conversation(tuple(messages), (CLOCK,))


@pytest.mark.parametrize("family", ["qwen3", "mistral", "deepseek_r1", "llama3"])
def test_a_long_trace_is_read_at_once(family: str) -> None:
    """In a tenth of a second; it took 3 to 5 when every prompt was rendered."""
    conversation = agent(198)
    begin = time.process_time()
    shown = reader_of(NAMED[family]).show(conversation)
    assert time.process_time() - begin < 1.5
    assert len(shown.targets) >= 99


HALF_FOLLOWED = [
    "{{ m.content[:1].upper() ~ m.content[1:] }}",
    "{{ m.content | indent(2) }}",
    "{{ m.content[:-3] ~ (m.content[-3:] | upper) }}",
]


@pytest.mark.parametrize("shown", HALF_FOLLOWED)
def test_an_answer_whose_edge_is_rewritten_is_refused(shown: str) -> None:
    answers = reader("{% for m in messages %}" + shown + "</s>{% endfor %}")
    with pytest.raises(TemplateRefusal, match="rewrites the content of message 2"):
        answers.show(talk([user("why so?"), assistant("because\nit is")]))


LEFT_OUT = [
    ("m.content.split('</think>')[-1] | trim", "so</think> it is "),
    ("m.content.split('</think>')[-1]", "</think>it is"),
    ("m.content | replace('<eos>', '')", "it is<eos>"),
    ("m.content.removeprefix('A: ')", "A: it is"),
    ("m.content[3:]", "A: it is"),
]


@pytest.mark.parametrize(("shown", "content"), LEFT_OUT)
def test_what_is_left_out_of_an_answer_does_not_keep_the_rest_from_being_learnt(shown: str, content: str) -> None:
    answers = reader("{% for m in messages %}{{ " + shown + " }}</s>{% endfor %}")
    found = answers.show(talk([user("why?"), assistant(content)]))
    assert [found.text[start:end] for start, end in found.targets] == ["it is</s>"]

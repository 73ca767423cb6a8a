"""What a rendered conversation says where: one small case per rule, each place by hand."""

from typing import Any

import pytest

from schemas.conversations.parts import Markers, Part, Parts, Source
from schemas.conversations.show import track
from schemas.conversations.speech import Speech
from schemas.conversations.template import ChatTemplate, TemplateRefusal
from tests.schemas.conversations.readers import NAMED, reader_of, talk, template_of
from tests.schemas.conversations.record import Message, assistant, call, user

CALL = call("f", {"a": 1}, "call00001")


def parts_of(family: str, *messages: Message) -> Parts:
    conversation = talk(messages)
    tracked = [track(number, message) for number, message in enumerate(conversation.messages)]
    sources = [Source(m.role, m.content, has_field=m.reasoning_key is not None) for m in conversation.messages]
    speech = Speech(template_of(NAMED[family]), tracked)
    return Parts(speech.rendered(), sources, speech, reader_of(NAMED[family]).markers)


def told(parts: Parts, message: int) -> dict[str, tuple[str, str]]:
    """Of every part, what is learnt of it and what its own characters are."""
    return {
        part.kind: (parts.text[part.start : part.end], parts.text[slice(*part.shown)]) for part in parts.of(message)
    }


THOUGHT = ("<think>\nR\n</think>\n\n", "R")
BY_HAND: list[tuple[str, Message, dict[str, tuple[str, str]]]] = [
    ("chatml", assistant(" B\n"), {"content": (" B\n", " B\n")}),
    ("llama3", assistant(" B\n"), {"content": ("B", "B")}),
    ("chatml", assistant(""), {}),
    ("qwen3", assistant("B", reasoning_content="R"), {"reasoning": THOUGHT, "content": ("B", "B")}),
    ("qwen3", assistant("<think>R</think>B"), {"reasoning": THOUGHT, "content": ("B", "B")}),
    ("chatml", assistant("<think>\nR\n</think>B"), {"reasoning": ("<think>\nR\n</think>", "R"), "content": ("B", "B")}),
    ("mistral", assistant("<think>R</think>B"), {"reasoning": (" <think>R</think>", "R"), "content": ("B", "B")}),
    ("deepseek_r1", assistant("<think>\nR</think>B"), {"reasoning": ("R</think>", "R"), "content": ("B", "B")}),
    ("chatml", assistant("<think>\n\n</think>\n\nB"), {"content": ("B", "B")}),
    ("qwen3", assistant("<think> </think>B"), {"content": ("B", "B")}),
    ("qwen3", assistant("", reasoning_content="R"), {"reasoning": THOUGHT}),
    ("chatml", assistant("B<think>R</think>"), {"content": ("B<think>R</think>", "B<think>R</think>")}),
    ("chatml", assistant("<think>R"), {"content": ("<think>R", "<think>R")}),
]  # fmt: skip


@pytest.mark.parametrize(("family", "message", "expected"), BY_HAND)
def test_contents_and_reasoning(family: str, message: Message, expected: dict[str, tuple[str, str]]) -> None:
    assert told(parts_of(family, user("Q"), message), 1) == expected


WRITTEN = '\n<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>'
CALLS: list[tuple[str, Message, str]] = [
    ("qwen3", assistant("B", CALL), WRITTEN),
    ("qwen3", assistant(None, CALL), WRITTEN[1:]),
    ("qwen3", assistant(None, CALL, reasoning_content="R"), WRITTEN[1:]),
    ("llama3", assistant(None, CALL), '{"name": "f", "parameters": {"a": 1}}'),
    ("mistral", assistant(None, CALL), '[TOOL_CALLS] [{"name": "f", "arguments": {"a": 1}, "id": "call00001"}]'),
    (
        "deepseek_r1",
        assistant(None, CALL),
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n"
        '{"a": 1}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
    ),
]


@pytest.mark.parametrize(("family", "message", "written"), CALLS)
def test_tool_calls_have_their_markup_up_to_the_end_of_the_turn(family: str, message: Message, written: str) -> None:
    parts = parts_of(family, user("Q"), message)
    part = parts.of(1)[-1]
    assert (part.kind, part.verbatim, parts.text[part.start : part.end]) == ("tool_calls", False, written)
    end = parts.end_of_turn(1)
    assert end is not None and part.end == end[0]


def test_a_part_of_two_runs_is_not_verbatim() -> None:
    parts = parts_of("qwen3", user("Q"), assistant("Here: </think> it is."))
    (part,) = parts.of(1)
    assert not part.verbatim and part == Part(1, "content", *part.shown, part.shown, verbatim=False)


def test_the_end_of_a_turn_is_the_marker_alone_and_an_empty_answers_too() -> None:
    parts = parts_of("chatml", user("Q"), assistant(""), user("Q"), assistant("<|im_end|>"), user("Q"))
    text = "<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\n"
    assert parts.end_of_turn(1) == (len(text), len(text) + 10)
    second = 2 * len(text) + 11
    assert parts.end_of_turn(3) == (second + 10, second + 20)  # not the words of the answer
    assert [parts.end_of_turn(number) for number in (0, 2, 4)] == [None] * 3


def test_where_a_content_with_a_block_stands() -> None:
    parts = parts_of("chatml", user("Q"), assistant("<think>R</think>B"), user("Q"), assistant("B"))
    place = parts.with_block(1)
    assert place is not None and parts.text[slice(*place)] == "<think>R</think>B"
    assert parts.with_block(3) is None and parts.with_block(0) is None
    assert parts_of("qwen3", user("Q"), assistant("<think>R</think>B")).with_block(1) is None


@pytest.mark.parametrize(
    ("content", "block"),
    [
        ("<think>R</think>B", (7, 8, 16)),
        (" \n<think>\n\nR\n</think>\n\nB", (11, 12, 23)),
        ("<think></think>", (7, 7, 15)),
        ("<think>a</think>b</think>", (7, 8, 16)),
        ("B<think>R</think>", None),
        ("<think>R", None),
        ("", None),
    ],
)
def test_a_block_of_reasoning_begins_a_content(content: str, block: tuple[int, int, int] | None) -> None:
    assert Source("assistant", content).block == block
    assert Source("user", content).block is None
    assert Source("assistant", content, has_field=True).block is None


@pytest.mark.parametrize(
    ("family", "end"), [(f, NAMED[f].eos) for f in ("chatml", "qwen3", "mistral", "llama3", "deepseek_r1")]
    + [("gemma3", "<end_of_turn>"), ("phi3", "<|end|>"), ("zephyr", "</s>")],
)  # fmt: skip
def test_the_end_marker_is_learnt_from_one_answer(family: str, end: str) -> None:
    assert Markers.of(template_of(NAMED[family]), NAMED[family].special).end == end


def test_a_template_may_have_no_end_marker_or_render_nothing() -> None:
    source = "{% for m in messages %}{{ m.content }}\n{% endfor %}"
    assert Markers.of(ChatTemplate(source), ("</s>", "\n\n")).end is None
    assert Markers.of(ChatTemplate(source + "</s>"), ("</s>", "</s></s>")).end == "</s>"
    assert Markers.of(ChatTemplate(source + "</s></s>"), ("</s>", "</s></s>")).end == "</s></s>"  # the longest there
    with pytest.raises(TemplateRefusal):
        Markers.of(ChatTemplate("{{ raise_exception('no') }}"), ())


def test_the_parts_of_a_message_are_found_once() -> None:
    parts: Any = parts_of("qwen3", user("Q"), assistant("B", reasoning_content="R"))
    assert parts.of(1) is parts.of(1)


@pytest.mark.parametrize("source", ["hello", "{% for m in messages %}{{ m.content | upper }}{% endfor %}"])
def test_a_template_that_shows_no_answer_as_it_is_is_refused(source: str) -> None:
    with pytest.raises(TemplateRefusal, match="shows nothing of the answer as it is"):
        Markers.of(ChatTemplate(source), ("</s>",))


# Three special tokens end a turn, as gpt-oss has them: a call, the last answer, any other.
HARMONY = (
    "{% for m in messages %}<|start|>{{ m.role }}<|message|>"
    "{% if m.tool_calls %}{{ m.tool_calls[0].function.name }}{% endif %}{{ m.content or '' }}"
    "{% if m.tool_calls %}<|call|>{% elif loop.last and m.role == 'assistant' %}<|return|>{% else %}<|end|>{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|start|>assistant<|message|>{% endif %}"
)


def test_a_turn_may_end_otherwise_than_a_plain_answer() -> None:
    template = ChatTemplate(HARMONY)
    conversation = talk([user("Q"), assistant(None, CALL), {"role": "tool", "content": "1"}, assistant("A")])
    speech = Speech(template, [track(number, message) for number, message in enumerate(conversation.messages)])
    special = ("<|start|>", "<|message|>", "<|call|>", "<|return|>", "<|end|>")
    sources = [Source(message.role, message.content) for message in conversation.messages]
    parts = Parts(speech.rendered(), sources, speech, Markers.of(template, special))
    ends = [parts.end_of_turn(number) for number in (1, 3)]
    assert [parts.text[slice(*end)] for end in ends if end is not None] == ["<|call|>", "<|return|>"]
    assert told(parts, 1) == {"tool_calls": ("f", "f")}

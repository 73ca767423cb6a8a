"""Each layout: the conversation of a record, as it is or with its lists as JSON, and each refusal."""

import json
from typing import Any, cast

import pytest

from schemas.conversations.conversation import Conversation, Message, ToolCall, conversation_id
from schemas.conversations.layout import LAYOUTS, Layout
from schemas.errors import ConfigError, CorpusError

TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]
TALK = Conversation(
    (
        Message("system", "Be brief."),
        Message("user", "1 + 1?"),
        Message("assistant", tool_calls=(ToolCall("f", {"a": 1}), ToolCall("f", {"a": 2})), without_content=True),
        Message("tool", "2"),
        Message("assistant", "It is 2."),
    ),
    tuple(TOOLS),
)
MESSAGES: list[Any] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "1 + 1?"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {"a": n}}} for n in (1, 2)],
    },
    {"role": "tool", "content": "2"},
    {"role": "assistant", "content": "It is 2."},
]
CALLS = '[{"name": "f", "arguments": {"a": 1}}, {"name": "f", "arguments": {"a": 2}}]'
TURNS: list[Any] = [
    {"from": "human", "value": "1 + 1?", "weight": 0.0},
    {"from": "function_call", "value": CALLS, "weight": None},
    {"from": "observation", "value": "2"},
    {"from": "gpt", "value": "It is 2.", "weight": 1.0},
]
RECORDS: dict[str, list[dict[str, Any]]] = {
    "messages": [
        {"messages": MESSAGES, "tools": TOOLS},
        {"messages": json.dumps(MESSAGES), "tools": json.dumps(TOOLS), "source": 3},
    ],
    "sharegpt": [
        {"conversations": [{"from": "system", "value": "Be brief."}, *TURNS], "tools": TOOLS, "system": " "},
        {"conversations": TURNS, "tools": json.dumps(TOOLS), "system": "Be brief."},
        {"conversations": json.dumps(TURNS), "tools": TOOLS, "system": "Be brief."},
    ],
}


def read(layout: str, record: dict[str, Any], tools: str | None = "tools") -> Conversation:
    found = LAYOUTS.find(layout)
    return found.read(record, found.field or "", tools, "a.jsonl:7")


def refusal(layout: str, record: dict[str, Any]) -> str:
    with pytest.raises(CorpusError) as caught:
        read(layout, record)
    return str(caught.value)


@pytest.mark.parametrize(("layout", "record"), [(name, record) for name, every in RECORDS.items() for record in every])
def test_one_conversation_in_every_layout(layout: str, record: dict[str, Any]) -> None:
    assert read(layout, record) == TALK
    assert conversation_id(read(layout, record)) == conversation_id(TALK)
    assert read(layout, record, tools=None) == Conversation(TALK.messages)


def test_fields_that_are_read() -> None:
    fields = {
        name: (layout.fields("f", "t"), layout.fields("f", None), layout.nested("f", "t"), layout.optional)
        for name, layout in LAYOUTS.items()
    }
    assert fields == {
        "alpaca": (
            ["instruction", "input", "output", "t"],
            ["instruction", "input", "output"],
            ["t"],
            ("input",),
        ),
        "messages": (["f", "t"], ["f"], ["f", "t"], ()),
        "sharegpt": (["f", "system", "t"], ["f", "system"], ["f", "t"], ("system",)),
    }


def test_alpaca_is_one_question_and_one_answer() -> None:
    record = {"instruction": "Add.", "input": "1 and 1\n", "output": " 2"}
    assert read("alpaca", record).messages == (Message("user", "Add.\n\n1 and 1\n"), Message("assistant", " 2"))
    for more in ({"input": ""}, {"input": " \n"}, {"input": None}, {}):
        without = {"instruction": "Add.", "output": "", **more}
        assert read("alpaca", without).messages == (Message("user", "Add."), Message("assistant"))
    assert read("alpaca", record | {"tools": TOOLS}).tools == tuple(TOOLS)
    assert refusal("alpaca", {"instruction": "x"}) == "a.jsonl:7: no field 'output'; available: 'instruction'"
    assert refusal("alpaca", record | {"input": 3}) == "a.jsonl:7: field 'input' is a number, not a string"
    assert refusal("alpaca", record | {"output": None}) == "a.jsonl:7: field 'output' is null, not a string"
    assert refusal("alpaca", record | {"output": "\ud83d"}).startswith("a.jsonl:7: field 'output' has an unpaired")


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"conversations": TURNS}, "no field 'messages'; available: 'conversations'"),
        ({"messages": MESSAGES[:2]}, "field 'messages': no message is an assistant's, and only what an assistant says"),
        ({"messages": MESSAGES[4:]}, "field 'messages': the first message is an assistant's, and there is nothing"),
        ({"messages": TURNS}, "field 'messages': message 1 has no 'role'; it has 'from', 'value', 'weight'"),
        ({"messages": [MESSAGES[1], 3]}, "field 'messages': message 2 is a number, not an object"),
        ({"messages": "I say: hello"}, "field 'messages': not JSON: Expecting value: line 1 column 1 (char 0)"),
        ({"messages": MESSAGES, "tools": [3]}, "field 'tools': tool 1 is a number, not an object"),
    ],
)
def test_refusals_of_messages(record: dict[str, Any], said: str) -> None:
    assert refusal("messages", record).startswith(f"a.jsonl:7: {said}")


ASKED = {"from": "user", "value": "q"}
SPEAKERS = (
    "system, human, user, gpt, assistant, chatgpt, bing, bard, function_call, tool_call, tool, function, observation, "
    "function_response, tool_response"
)


@pytest.mark.parametrize(
    ("turn", "said"),
    [
        ("hello", " is a string, not an object"),
        ({"role": "assistant", "content": "x"}, " has no 'from'; it has 'role', 'content'"),
        ({"from": "gpt", "text": "x"}, " has no 'value'; it has 'from', 'text'"),
        ({"from": "gpt", "value": None}, ": 'value' is null, not a string"),
        ({"from": 3, "value": "x"}, ": 'from' is a number, not a string"),
        ({"from": "claude", "value": "x"}, f": 'from' is 'claude', not one of {SPEAKERS}"),
        (
            {"from": "gpt", "value": "x", "role": "user"},
            " has 'role' beside 'from' and 'value'; keep one of the two layouts",
        ),
        (
            {"from": "gpt", "value": "x", "images": ["a.png"]},
            " has 'images', a list, which cannot be read; take it out of the records",
        ),
        (
            {"from": "gpt", "value": "x", "weight": 0.5},
            " has the weight 0.5; an answer is learnt (1) or not (0)",
        ),
        ({"from": "function_call", "value": "f(1)"}, ": 'value': not JSON: Expecting value: line 1 column 1 (char 0)"),
        ({"from": "function_call", "value": "1"}, ": tool call 1 is a number, not an object"),
        ({"from": "function_call", "value": '{"arguments": {}}'}, ": tool call 1 has no 'function'"),
    ],
)
def test_refusals_of_sharegpt(turn: Any, said: str) -> None:
    assert refusal("sharegpt", {"conversations": [ASKED, turn]}) == f"a.jsonl:7: field 'conversations': message 2{said}"


def test_sharegpt_has_one_system_message_and_somebody_who_asks() -> None:
    both = {"conversations": [{"from": "system", "value": "s"}, *TURNS], "system": "t"}
    said = "a.jsonl:7: field 'conversations': message 1 is of the system, and so is the field 'system'; keep one"
    assert refusal("sharegpt", both) == said
    assert refusal("sharegpt", {"conversations": TURNS, "system": 3}) == (
        "a.jsonl:7: field 'system' is a number, not a string"
    )
    assert "the first message is an assistant's" in refusal("sharegpt", {"conversations": TURNS[3:]})


def test_a_layout_is_found_by_name_or_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"^unknown layout of conversations 'chatml'; available: alpaca, messages, sh"
    ):
        LAYOUTS.find("chatml")
    assert LAYOUTS.check is not None
    LAYOUTS.check(LAYOUTS.find("messages"))
    with pytest.raises(ValueError, match=r"^it is a str, not an object of schemas\.conversations\.layout\.Layout$"):
        LAYOUTS.check(cast(Layout, "messages"))

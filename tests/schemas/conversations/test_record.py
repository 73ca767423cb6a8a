"""What a message may hold: what is read of it, and one reason for what is refused. The schema says the same."""

import importlib
from typing import Any

import pytest

from schemas.conversations.conversation import Message, ToolCall
from schemas.conversations.record import ConversationRecord, read_message
from schemas.errors import CorpusError

CALL = {"name": "f", "arguments": {"b": 1, "a": None}}

READ: list[tuple[dict[str, Any], Message]] = [
    ({"role": "system", "content": "Be brief."}, Message("system", "Be brief.")),
    ({"role": "developer", "content": ""}, Message("developer", "")),
    ({"role": "user", "content": None}, Message("user", "")),
    ({"role": "user"}, Message("user", "")),
    (
        {"role": "user", "content": [{"type": "text", "text": "a "}, {"type": "text", "text": "b", "image": None}]},
        Message("user", "a b"),
    ),
    ({"role": "user", "content": []}, Message("user", "")),
    (
        {"role": "user", "content": "q", "name": "anna", "refusal": None, "annotations": []},
        Message("user", "q", name="anna"),
    ),
    ({"role": "assistant", "content": " a\n"}, Message("assistant", " a\n")),
    ({"role": "assistant", "content": None}, Message("assistant", "")),
    ({"role": "assistant", "content": "a", "thinking": None}, Message("assistant", "a")),
    ({"role": "assistant", "content": "a", "thinking": ""}, Message("assistant", "a", reasoning_key="thinking")),
    (
        {"role": "assistant", "content": "a", "reasoning": "r"},
        Message("assistant", "a", "r", reasoning_key="reasoning"),
    ),
    (
        {"role": "assistant", "content": "a", "reasoning_content": "", "thinking": "t"},
        Message("assistant", "a", "t", reasoning_key="thinking"),
    ),
    ({"role": "user", "content": "q", "reasoning_content": ""}, Message("user", "q")),
    (
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function", "function": CALL}]},
        Message("assistant", tool_calls=(ToolCall("f", {"b": 1, "a": None}, "1"),), without_content=True),
    ),
    (
        {"role": "assistant", "content": "", "tool_calls": [{"name": "f", "arguments": '{"a":1}', "index": 0}]},
        Message("assistant", tool_calls=(ToolCall("f", '{"a":1}'),)),
    ),
    (
        {
            "role": "assistant",
            "tool_calls": [{"type": None, "function": {"name": "f", "arguments": None}}, {"name": "g"}],
        },
        Message("assistant", tool_calls=(ToolCall("f", {}), ToolCall("g", {})), without_content=True),
    ),
    ({"role": "assistant", "content": "a", "tool_calls": []}, Message("assistant", "a")),
    ({"role": "tool", "content": "21", "tool_call_id": "1", "name": ""}, Message("tool", "21", tool_call_id="1")),
    ({"role": "assistant", "content": "a", "weight": 1.0, "model": "m", "tokens": 3}, Message("assistant", "a")),
    ({"role": "user", "content": "q", "weight": 0, "toxic": False}, Message("user", "q")),
    ({"role": "assistant", "content": "a", "weight": 0}, Message("assistant", "a", learnt=False)),
]


def complaints(message: Any) -> list[str]:
    schema = ConversationRecord.model_json_schema()
    validator = importlib.import_module("jsonschema").Draft202012Validator(schema)  # jsonschema comes with Ray
    return [error.message for error in validator.iter_errors({"messages": [message]})]


@pytest.mark.parametrize(("record", "message"), READ)
def test_what_is_read_of_a_message(record: dict[str, Any], message: Message) -> None:
    assert read_message(record, "a:1") == message
    assert complaints(record) == []


IN_CALL: list[tuple[Any, str]] = [
    ("f", " is a string, not an object"),
    ({}, " has no 'function'"),
    ({"function": CALL, "name": "f"}, " has both 'function' and 'name'"),
    ({"function": CALL, "arguments": {"a": 1}}, " has 'arguments' beside its 'function'"),
    ({"type": "custom", "function": CALL}, ": 'type' is 'custom', not 'function'"),
    ({"function": "f"}, ": 'function' is a string, not an object"),
    ({"function": {"arguments": {"a": 1}}}, " has no 'function.name'; it has 'arguments'"),
    ({"function": {"name": 1}}, ": 'function.name' is a number, not a string"),
    ({"name": "f", "arguments": [1]}, ": 'arguments' is a list, neither an object nor a string"),
    ({"name": "f", "id": 7}, ": 'id' is a number, not a string"),
    (
        {"function": {**CALL, "strict": True}},
        " has 'function.strict', a boolean, which cannot be read; take it out of the records",
    ),
]
REFUSED: list[tuple[Any, str]] = [
    ("hello", " is a string, not an object"),
    (["user", "hello"], " is a list, not an object"),
    ({"from": "human", "value": "x"}, " has no 'role'; it has 'from', 'value'"),
    (
        {"role": "critic", "content": "x"},
        ": 'role' is 'critic', not 'system', 'developer', 'user', 'assistant' or 'tool'",
    ),
    ({"role": ["user"]}, ": 'role' is ['user'], not 'system', 'developer', 'user', 'assistant' or 'tool'"),
    ({"role": "user", "content": 3}, ": 'content' is a number, not a string"),
    ({"role": "user", "content": {"text": "x"}}, ": 'content' is an object, not a string"),
    ({"role": "user", "content": ["x"]}, ": 'content' has a string in its list, not an object with the type 'text'"),
    (
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]},
        ": 'content' has a part of the type 'image_url', and only text can be read; leave such records out",
    ),
    (
        {"role": "user", "content": [{"type": "text", "text": "x", "cache": 1}]},
        ": 'content' has a part of the type 'text' with 'cache', which cannot be read",
    ),
    ({"role": "user", "content": [{"type": "text"}]}, ": 'content' has a part whose 'text' is null, not a string"),
    (
        {"role": "user", "content": "x", "audio": {"id": "1"}},
        " has 'audio', an object, which cannot be read; take it out of the records",
    ),
    ({"role": "user", "content": "x", "name": 3}, ": 'name' is a number, not a string"),
    ({"role": "assistant", "content": b"x"}, ": 'content' is a bytes, not a string"),
    ({"role": "assistant", "tool_calls": "f()"}, ": 'tool_calls' is a string, not a list"),
    *(({"role": "assistant", "tool_calls": [CALL, call]}, f": tool call 2{said}") for call, said in IN_CALL),
]
AGAINST_ITS_ROLE: list[tuple[dict[str, Any], str]] = [
    (
        {"role": "user", "content": "x", "tool_calls": [CALL]},
        " has 'tool_calls', which only an assistant's has; its role is 'user'",
    ),
    (
        {"role": "tool", "content": "x", "thinking": "hm"},
        " has 'thinking', which only an assistant's has; its role is 'tool'",
    ),
    ({"role": "assistant", "reasoning": "a", "thinking": "b"}, " has both 'reasoning' and 'thinking'; keep one"),
    (
        {"role": "assistant", "content": "x", "weight": 0.5},
        " has the weight 0.5; an answer is learnt (1) or not (0)",
    ),
    ({"role": "assistant", "content": "x", "weight": True}, ": 'weight' is a boolean, not a number"),
]


@pytest.mark.parametrize(("record", "said"), REFUSED + AGAINST_ITS_ROLE)
def test_what_is_refused_is_named(record: Any, said: str) -> None:
    with pytest.raises(CorpusError) as caught:
        read_message(record, "a.jsonl:7: field 'messages': message 3")
    assert str(caught.value) == f"a.jsonl:7: field 'messages': message 3{said}"


@pytest.mark.parametrize(
    "record", [record for record, said in REFUSED if "function" not in said and "bytes" not in said]
)
def test_the_schema_refuses_it_too(record: Any) -> None:
    assert complaints(record) != []

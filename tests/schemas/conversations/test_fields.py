"""Lists of messages and tools, given as such or as JSON; what is no conversation has one reason."""

import json
from datetime import datetime
from typing import Any

import pytest

from schemas.conversations.conversation import Conversation, Message
from schemas.conversations.fields import MOST_DEPTH, conversation_of, tools_of, turns_of
from schemas.errors import CorpusError

TURNS: list[Any] = [{"role": "user", "content": "é", "n": [1, 2.5, None, True]}, "anything"]
TOOL = {"name": "f", "parameters": {"type": "object"}}


def nested(depth: int) -> Any:
    return [] if depth == 1 else [nested(depth - 1)]


@pytest.mark.parametrize("value", [TURNS, json.dumps(TURNS), json.dumps(TURNS, indent=2, ensure_ascii=False)])
def test_turns_are_a_list_or_json_of_one(value: Any) -> None:
    assert turns_of({"m": value}, "m", "a:1") == TURNS


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, " is null, not a list of messages"),
        ("{}", " is an object, not a list of messages"),
        ([], " is an empty list; a conversation has a question and an answer at least"),
        ("hello", ": not JSON: Expecting value: line 1 column 1 (char 0)"),
        ('[{"role": "user", "role": "user"}]', ": the key 'role' is given twice; keep one of them"),
        ("[NaN]", ": message 1 has nan, a number that JSON does not have"),
        ([1, {"a": [float("inf")]}], ": message 2 has inf, a number that JSON does not have"),
        ([{"a": b"x"}], ": message 1 has a bytes, which JSON does not have"),
        (
            [{"a\udc00": 1}],
            ": message 1 has an unpaired surrogate, \\udc00, at character 1: that is half of a character, and no text; "
            "repair the record",
        ),
        ([nested(MOST_DEPTH + 1)], f": message 1 is nested more than {MOST_DEPTH} deep"),
    ],
)
def test_what_is_no_list_of_messages_is_named(value: Any, said: str) -> None:
    with pytest.raises(CorpusError) as caught:
        turns_of({"m": value}, "m", "a:1")
    assert str(caught.value) == f"a:1: field 'm'{said}"


def test_the_field_must_be_there() -> None:
    with pytest.raises(CorpusError, match=r"^a:1: no field 'm'; available: 'messages'$"):
        turns_of({"messages": TURNS}, "m", "a:1")
    assert turns_of({"m": [nested(MOST_DEPTH)]}, "m", "a:1") == [nested(MOST_DEPTH)]


def test_what_is_ignored_may_be_what_json_does_not_have() -> None:
    turn = {"role": "user", "content": "q", "timestamp": datetime(2026, 1, 2), "header": {"n": b"x"}}
    assert turns_of({"m": [turn]}, "m", "a:1") == [turn]
    with pytest.raises(CorpusError, match=r"^a:1: field 'm': message 1 has a datetime, which JSON does not have$"):
        turns_of({"m": [{**turn, "name": datetime(2026, 1, 2)}]}, "m", "a:1")


def test_tools_are_a_list_of_objects_or_json_of_one_or_none() -> None:
    for value in ([TOOL, {}], json.dumps([TOOL, {}])):
        assert tools_of({"t": value}, "t", "a:1") == (TOOL, {})
    without: list[dict[str, Any]] = [{}, {"t": None}, {"t": " \n"}, {"t": []}, {"t": "[]"}]
    for record in without:
        assert tools_of(record, "t", "a:1") == ()
    assert tools_of({"None": [TOOL]}, None, "a:1") == ()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (TOOL, " is an object, not a list of tools"),
        ("f(x)", ": not JSON: Expecting value: line 1 column 1 (char 0)"),
        ([TOOL, "f"], ": tool 2 is a string, not an object"),
        ([{"name": float("nan")}], ": tool 1 has nan, a number that JSON does not have"),
    ],
)
def test_what_are_no_tools_is_named(value: Any, said: str) -> None:
    with pytest.raises(CorpusError) as caught:
        tools_of({"t": value}, "t", "a:1")
    assert str(caught.value) == f"a:1: field 't'{said}"


def test_somebody_asks_and_an_assistant_answers() -> None:
    system, user, assistant = Message("system", "s"), Message("user", "u"), Message("assistant", "a")
    assert conversation_of([user, assistant], (TOOL,), "a:1") == Conversation((user, assistant), (TOOL,))
    assert conversation_of([system, assistant], (), "a:1").messages == (system, assistant)
    with pytest.raises(CorpusError, match=r"^a:1: the first message is an assistant's, and there is nothing that it"):
        conversation_of([assistant, user, assistant], (), "a:1")
    with pytest.raises(CorpusError, match=r"^a:1: no message is an assistant's, and only what an assistant says is"):
        conversation_of([system, user], (), "a:1")

"""What a template is given of a message, key by key, and the id of a conversation."""

import hashlib

import pytest

from schemas.conversations.conversation import Conversation, Message, ToolCall, conversation_id

CALL = ToolCall("weather", {"city": "Zürich", "days": [1, 2]}, "c1")


def test_a_template_is_given_what_the_record_has_and_nothing_else() -> None:
    assert Message("user", "Hi").for_template() == {"role": "user", "content": "Hi"}
    assert Message("user").for_template() == {"role": "user", "content": ""}
    assert Message("assistant", without_content=True).for_template() == {"role": "assistant"}
    full = Message("assistant", "Yes", "Hm", (CALL,), "anna", "c1", "thinking")
    assert list(full.for_template().items()) == [
        ("role", "assistant"),
        ("content", "Yes"),
        ("thinking", "Hm"),
        ("reasoning_content", "Hm"),
        (
            "tool_calls",
            [
                {
                    "id": "c1",
                    "type": "function",
                    "function": {"name": "weather", "arguments": {"city": "Zürich", "days": [1, 2]}},
                }
            ],
        ),
        ("name", "anna"),
        ("tool_call_id", "c1"),
    ]


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning", "thinking"])
def test_reasoning_has_its_own_key_and_those_that_templates_know_even_if_it_is_empty(key: str) -> None:
    assert Message("assistant", "a", reasoning_key=key).for_template() == {  # type: ignore[arg-type]
        "role": "assistant",
        "content": "a",
        "thinking": "",
        "reasoning_content": "",
        key: "",
    }


def test_arguments_stay_what_they_are_and_cannot_be_changed_by_a_template() -> None:
    text = ToolCall("f", '{"a":  1}')
    assert text.for_template() == {"type": "function", "function": {"name": "f", "arguments": '{"a":  1}'}}
    CALL.for_template()["function"]["arguments"]["days"].append(3)
    assert CALL.arguments == {"city": "Zürich", "days": [1, 2]}


def test_the_id_is_a_hash_of_canonical_json() -> None:
    conversation = Conversation((Message("user", "é"), Message("assistant", "b")), ({"name": "f", "a": 1},))
    spelled = (
        '{"messages":[{"content":"é","role":"user"},{"content":"b","role":"assistant"}],"tools":[{"a":1,"name":"f"}]}'
    )
    assert conversation_id(conversation) == hashlib.sha256(spelled.encode()).hexdigest()[:32]


def test_whatever_a_template_can_see_changes_the_id() -> None:
    first = Message("user", "a")
    variants = [
        Message("assistant", "b"),
        Message("assistant", ""),
        Message("assistant", without_content=True),
        Message("assistant", "b", "c", reasoning_key="reasoning"),
        Message("assistant", "b", "c", reasoning_key="thinking"),
        Message("assistant", "b", tool_calls=(ToolCall("f", {}),)),
        Message("assistant", "b", tool_calls=(ToolCall("f", "{}"),)),
        Message("tool", "b"),
        Message("tool", "b", tool_call_id="b"),
        Message("tool", "b", name="b"),
    ]
    ids = {conversation_id(Conversation((first, second))) for second in variants}
    assert len(ids) == len(variants)
    assert conversation_id(Conversation((variants[0], first))) not in ids
    assert conversation_id(Conversation((first, variants[0]), ({},))) not in ids

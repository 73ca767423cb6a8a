"""What of a conversation stands beside its text: stored and read again the same, or refused as what it is not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.cache.structure import BLOCK, Structure

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(codec="utf-8"), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
MESSAGES = st.dictionaries(
    st.integers(0, 2**31 - 1),
    st.builds(
        lambda role, more: {**more, "role": role},
        st.sampled_from(["user", "assistant", "tool"]),
        st.dictionaries(st.sampled_from(["content", "name", "tool_calls", BLOCK]), JSON),
    ),
    max_size=4,
)


@given(tools=st.lists(JSON, max_size=3), messages=MESSAGES)
def test_what_is_stored_is_read_again(tools: list[object], messages: dict[int, dict[str, object]]) -> None:
    structure = Structure(tuple(tools), messages)
    text = structure.dump()
    assert Structure.load(text) == structure
    assert Structure.load(text).dump() == text
    assert (text == "") == (not tools and not messages)


def test_its_bytes_say_what_it_says_in_its_order() -> None:
    """Templates show the keys of tools in the order in which they are given."""
    structure = Structure(({"b": 1, "a": "é"},), {2: {"role": "user"}, 10: {"role": "tool", "content": "x"}})
    assert structure.dump() == (
        '{"tools":[{"b":1,"a":"é"}],"messages":{"2":{"role":"user"},"10":{"role":"tool","content":"x"}}}'
    )
    assert Structure().dump() == "" and Structure.load("") == Structure()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "Expecting property name"),
        ("[]", "not an object of tools and messages"),
        ("3", "not an object of tools and messages"),
        ('{"tools": []}', "not an object of tools and messages"),
        ('{"tools": [], "messages": {}, "more": 1}', "not an object of tools and messages"),
        ('{"tools": {}, "messages": {}}', "tools are a list, and messages an object"),
        ('{"tools": [], "messages": []}', "tools are a list, and messages an object"),
        ('{"tools": [], "messages": {"0": {}}}', "a message has no role"),
        ('{"tools": [], "messages": {"0": {"role": 3}}}', "a message has no role"),
        ('{"tools": [], "messages": {"0": "user"}}', "a message has no role"),
        ('{"tools": [], "messages": {"first": {"role": "user"}}}', "a message has no number"),
        ('{"tools": [], "messages": {"-1": {"role": "user"}}}', "a message has no number"),
        ('{"tools": [], "messages": {"1_0": {"role": "user"}}}', "a message has no number"),
        ('{"tools": [], "messages": {"²": {"role": "user"}}}', "a message has no number"),
    ],
)
def test_what_is_never_stored_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Structure.load(text)
    assert not Structure.is_sound(text, 9)


def test_what_can_be_read_is_sound() -> None:
    assert Structure.is_sound("", 0) and Structure.is_sound('{"tools": [], "messages": {"0": {"role": "user"}}}', 0)
    assert not Structure.is_sound("[" * 100_000, 0)

"""The fields of a record: each fault begins with its place and names what is there instead."""

from typing import Any

import pytest

from schemas.errors import CorpusError
from schemas.texts.fields import field_of, kind_of, require_whole, text_of

RECORD = {"text": "é", "n": 3, "none": None}


def test_a_field_is_given_as_it_is() -> None:
    assert field_of(RECORD, "n", "a:1") == 3 and field_of(RECORD, "none", "a:1") is None
    assert text_of(RECORD, "text", "a:1") == "é" and text_of({"": ""}, "", "a:1") == ""


def test_a_field_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(CorpusError, match=r"^a:1: no field 'txt'; available: 'text', 'n', 'none'$"):
        field_of(RECORD, "txt", "a:1")


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (None, "null"),
        (True, "a boolean"),
        (0, "a number"),
        (1.5, "a number"),
        ([], "a list"),
        ({}, "an object"),
        (b"x", "a bytes"),
    ],
)
def test_what_is_no_string_is_named_by_its_kind(value: Any, kind: str) -> None:
    assert kind_of(value) == kind
    with pytest.raises(CorpusError, match=rf"^a:1: field 'f' is {kind}, not a string$"):
        text_of({"f": value}, "f", "a:1")


def test_half_a_character_is_no_text() -> None:
    require_whole("🙂", "f", "a:1")
    for read in (lambda: require_whole("x\udc80", "f", "a:1"), lambda: text_of({"f": "x\udc80"}, "f", "a:1")):
        with pytest.raises(CorpusError, match=r"^a:1: field 'f' has an unpaired surrogate, \\udc80, at character 1:"):
            read()

"""JSON of a line or of a field: its value, or one reason why it has none."""

import pytest

from schemas.errors import CorpusError
from schemas.texts.json_text import parse_json


def test_the_value_that_is_spelled() -> None:
    assert parse_json(' {"a": [1, 2.5, null, true, "é\\n"]} ', "a:1") == {"a": [1, 2.5, None, True, "é\n"]}
    assert list(parse_json('{"b": 1, "a": 2}', "a:1")) == ["b", "a"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", r"not JSON: Expecting value: line 1 column 1 \(char 0\), alas$"),
        ("[1, 2", "not JSON: Expecting ',' delimiter"),
        ('{"a": {"b": 1, "b": 1}}', "the key 'b' is given twice; keep one of them$"),
        ("[" * 100_000, "nested too deeply to be read$"),
        ("9" * 5_000, "a number cannot be read: Exceeds the limit"),
    ],
)
def test_each_fault_is_named_with_its_place(text: str, said: str) -> None:
    with pytest.raises(CorpusError, match=rf"^a\.csv:2: field 'm': {said}"):
        parse_json(text, "a.csv:2: field 'm'", lambda given: ", alas" if given == "" else "")

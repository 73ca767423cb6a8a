"""What every config and record promises: frozen, nothing unknown, nothing that is not a number, equal bytes."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas.strict import Strict, canonical_json

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


class Example(Strict):
    """A record."""

    number: float = 1.0
    """A number that
    is described on two lines."""
    names: tuple[str, ...] = ()


def test_it_is_frozen_and_refuses_what_it_does_not_know() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Example().number = 2.0  # type: ignore[misc]
    with pytest.raises(ValidationError, match=r"more\n  Extra inputs"):
        Example.model_validate({"more": 1})
    for value in ("nan", "inf", float("-inf")):
        with pytest.raises(ValidationError, match="finite number"):
            Example.model_validate({"number": value})


def test_a_description_is_one_paragraph() -> None:
    described = Example.model_json_schema()["properties"]["number"]["description"]
    assert described == "A number that is described on two lines."


def test_canonical_json_by_hand() -> None:
    assert canonical_json({"b": [1, 2.5], "a": {"é": None}}) == '{"a":{"é":null},"b":[1,2.5]}'
    assert Example(names=("x",)).canonical() == '{"names":["x"],"number":1.0}'
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json(float("nan"))


@given(JSON)
def test_canonical_json_is_read_back_and_heeds_no_order(value: Any) -> None:
    text = canonical_json(value)
    assert json.loads(text) == value
    if isinstance(value, dict):
        assert canonical_json(dict(reversed(value.items()))) == text

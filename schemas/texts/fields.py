"""The fields of a record: what a text must be, said once for corpora, held-out texts and scored pairs."""

from typing import Any

from schemas.errors import CorpusError
from schemas.shown import listed, quoted
from schemas.texts.format import Record
from schemas.texts.surrogates import describe_surrogate


def field_of(record: Record, field: str, place: str) -> Any:
    """The value of a field. Raises CorpusError, beginning with `place`, if there is no such field."""
    try:
        return record[field]
    except KeyError:
        raise CorpusError(f"{place}: no field {quoted(field)}; available: {listed(record)}") from None


def text_of(record: Record, field: str, place: str) -> str:
    """The text of a field. Raises CorpusError: no such field, not a string, half a character."""
    value = field_of(record, field, place)
    if not isinstance(value, str):
        raise CorpusError(f"{place}: field {quoted(field)} is {kind_of(value)}, not a string")
    require_whole(value, field, place)
    return value


def require_whole(text: str, field: str, place: str) -> None:
    """Raises CorpusError if `text` holds half of a character."""
    if problem := describe_surrogate(text):
        raise CorpusError(f"{place}: field {quoted(field)} has {problem}")


def kind_of(value: Any) -> str:
    """The kind of a JSON value, in words."""
    if value is None:
        return "null"
    names = {str: "a string", bool: "a boolean", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return names.get(type(value), f"a {type(value).__name__}")

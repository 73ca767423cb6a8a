"""The fields of a record that hold a conversation: lists and objects, or JSON of them where a table has no lists."""

import math
from collections.abc import Sequence
from typing import Any

from schemas.conversations.conversation import Conversation, Message
from schemas.conversations.record import IGNORED
from schemas.errors import CorpusError
from schemas.shown import quoted
from schemas.texts.fields import field_of, kind_of
from schemas.texts.format import Record
from schemas.texts.json_text import parse_json
from schemas.texts.surrogates import describe_surrogate

MOST_DEPTH = 100  # lists and objects within one another: definitions of tools have ten


class ShapeRefusal(CorpusError):
    """A conversation that is read, and of which nothing can be learnt as it stands: it can be left out."""


def turns_of(record: Record, field: str, place: str) -> list[Any]:
    """The list of messages in a field, each of whatever kind.

    Raises CorpusError, beginning with `place`: no such field, neither a list nor JSON of one, an empty list, a value
    that JSON does not have, half a character.
    """
    where = f"{place}: field {quoted(field)}"
    value = _parsed(field_of(record, field, place), where)
    if not isinstance(value, list):
        raise CorpusError(f"{where} is {kind_of(value)}, not a list of messages")
    if not value:
        raise CorpusError(f"{where} is an empty list; a conversation has a question and an answer at least")
    for number, turn in enumerate(value, 1):
        _require_json(_said(turn), f"{where}: message {number}")
    return value


def tools_of(record: Record, field: str | None, place: str) -> tuple[dict[str, Any], ...]:
    """The definitions of tools in a field; none if the record has no such field, or null or a blank string in it.

    Raises CorpusError, beginning with `place`: neither a list of objects nor JSON of one.
    """
    value = None if field is None else record.get(field)
    if value is None or (isinstance(value, str) and not value.strip()):
        return ()
    where = f"{place}: field {quoted(field)}"
    value = _parsed(value, where)
    if not isinstance(value, list):
        raise CorpusError(f"{where} is {kind_of(value)}, not a list of tools")
    for number, tool in enumerate(value, 1):
        if not isinstance(tool, dict):
            raise CorpusError(f"{where}: tool {number} is {kind_of(tool)}, not an object")
        _require_json(tool, f"{where}: tool {number}")
    return tuple(value)


def conversation_of(messages: Sequence[Message], tools: tuple[dict[str, Any], ...], where: str) -> Conversation:
    """Raises ShapeRefusal, beginning with `where`: nobody answers, or the first message answers nothing."""
    if messages[0].role == "assistant":
        raise ShapeRefusal(
            f"{where}: the first message is an assistant's, and there is nothing that it answers; take it out, or put "
            "the message before it that it answers"
        )
    if all(message.role != "assistant" for message in messages):
        raise ShapeRefusal(f"{where}: no message is an assistant's, and only what an assistant says is learnt")
    return Conversation(tuple(messages), tools)


def _said(turn: Any) -> Any:
    """A message without what is ignored of it, where a table may hold dates."""
    if isinstance(turn, dict):
        return {key: value for key, value in turn.items() if key not in IGNORED}
    return turn


def _parsed(value: Any, where: str) -> Any:
    return parse_json(value, where) if isinstance(value, str) else value


def _require_json(value: Any, where: str, depth: int = 1) -> None:
    if isinstance(value, str):
        if problem := describe_surrogate(value):
            raise CorpusError(f"{where} has {problem}")
    elif isinstance(value, (dict, list)):
        if depth > MOST_DEPTH:
            raise CorpusError(f"{where} is nested more than {MOST_DEPTH} deep")
        for part in (*value, *value.values()) if isinstance(value, dict) else value:
            _require_json(part, where, depth + 1)
    elif isinstance(value, float) and not math.isfinite(value):
        raise CorpusError(f"{where} has {value}, a number that JSON does not have")
    elif value is not None and not isinstance(value, (bool, int, float)):
        raise CorpusError(f"{where} has {kind_of(value)}, which JSON does not have")

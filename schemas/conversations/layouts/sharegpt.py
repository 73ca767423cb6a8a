"""`sharegpt`: objects with `from` and `value`."""

from typing import Any

from schemas.conversations.conversation import Conversation, Message, Role
from schemas.conversations.fields import conversation_of, tools_of, turns_of
from schemas.conversations.layout import Layout
from schemas.conversations.record import read_message
from schemas.errors import CorpusError
from schemas.shown import listed, quoted
from schemas.texts.fields import kind_of, text_of
from schemas.texts.format import Record
from schemas.texts.json_text import parse_json

SYSTEM = "system"
CALL = ("function_call", "tool_call")
ROLES: dict[str, Role] = {
    **dict.fromkeys((SYSTEM,), "system"),
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("gpt", "assistant", "chatgpt", "bing", "bard", *CALL), "assistant"),
    **dict.fromkeys(("tool", "function", "observation", "function_response", "tool_response"), "tool"),
}


class ShareGpt(Layout):
    """A record's own field `system`, if it holds a text that is not blank, is the system message.

    The value of a `function_call` is JSON: an object with name and arguments, or a list of them, called at once.
    """

    name, field, optional = "sharegpt", "conversations", (SYSTEM,)

    def read(self, record: Record, field: str, tools: str | None, place: str) -> Conversation:
        """See `Layout.read`."""
        where = f"{place}: field {quoted(field)}"
        turns = turns_of(record, field, place)
        messages = [_read(turn, f"{where}: message {number}") for number, turn in enumerate(turns, 1)]
        system = "" if record.get(SYSTEM) is None else text_of(record, SYSTEM, place)
        if system.strip():
            if messages[0].role == "system":
                raise CorpusError(f"{where}: message 1 is of the system, and so is the field 'system'; keep one")
            messages = [Message("system", system), *messages]
        return conversation_of(messages, tools_of(record, tools, place), where)


LAYOUT = ShareGpt()


def _read(turn: Any, where: str) -> Message:
    """A turn as a message of the layout `messages`, which knows what else one may hold."""
    if not isinstance(turn, dict):
        raise CorpusError(f"{where} is {kind_of(turn)}, not an object")
    speaker, value = _text(turn, "from", where), _text(turn, "value", where)
    if speaker not in ROLES:
        raise CorpusError(f"{where}: 'from' is {quoted(speaker)}, not one of {', '.join(ROLES)}")
    rest = {key: content for key, content in turn.items() if key not in ("from", "value") and content is not None}
    twice = next((key for key in ("role", "content", "tool_calls") if key in rest), None)
    if twice is not None:
        raise CorpusError(f"{where} has {quoted(twice)} beside 'from' and 'value'; keep one of the two layouts")
    said: dict[str, Any] = {"content": value}
    if speaker in CALL:
        calls = parse_json(value, f"{where}: 'value'")
        said = {"tool_calls": calls if isinstance(calls, list) else [calls]}
    return read_message({"role": ROLES[speaker], **said, **rest}, where)


def _text(turn: dict[str, Any], key: str, where: str) -> str:
    if key not in turn:
        raise CorpusError(f"{where} has no {quoted(key)}; it has {listed(turn)}")
    if not isinstance(turn[key], str):
        raise CorpusError(f"{where}: {quoted(key)} is {kind_of(turn[key])}, not a string")
    return str(turn[key])

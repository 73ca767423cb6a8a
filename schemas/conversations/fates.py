"""What becomes of each part of a conversation in its template: shown as it is, rewritten, or dropped."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

from schemas.conversations.conversation import Message, ReasoningKey
from schemas.conversations.parts import Kind, Part, Parts, Source, Speech
from schemas.conversations.template import TemplateRefusal

Fate = Literal["shown", "rewritten", "dropped"]
PartKey = tuple[int, Kind]  # of which message

REASONING_KEYS = frozenset(get_args(ReasoningKey))
_OTHER = "\N{MIDDLE DOT}"  # appended to a text, to see whether anything of it is shown


def find_fates(messages: Sequence[Message], shown: Sequence[Sequence[Part]], parts: Parts) -> Mapping[PartKey, Fate]:
    """The fate of every part that says more than blanks. `shown` are the parts of each message that are shown."""
    found: dict[PartKey, Fate] = {}
    for number, message in enumerate(messages):
        for kind, field in _said(message, parts.sources[number]):
            part = next((part for part in shown[number] if part.kind == kind), None)
            if part is not None:
                found[number, kind] = "shown" if part.verbatim else "rewritten"
            elif any(run.origin == (number, field) for run in parts.runs):  # the template followed it, and dropped it
                found[number, kind] = "dropped"
            else:
                found[number, kind] = "rewritten" if _matters(number, field, parts) else "dropped"
    return found


def _said(message: Message, source: Source) -> Iterator[tuple[Kind, str]]:
    """The parts that say more than blanks, each with the field where it stands."""
    block, content = source.block, message.content
    if message.reasoning.strip():
        yield "reasoning", "reasoning"
    if block is not None and content[block[0] : block[1]].strip():
        yield "reasoning", "content"
    if content[0 if block is None else block[2] :].strip():
        yield "content", "content"
    if message.tool_calls:
        yield "tool_calls", "tool_calls"


def _matters(number: int, field: str, parts: Parts) -> bool:
    """Returns whether the text would be another with another field: then it is shown, in a way that is not followed."""
    altered = list(parts.speech.messages)
    altered[number] = _altered(altered[number], field)
    try:
        return replace(parts.speech, messages=altered).rendered().text != parts.text
    except TemplateRefusal:
        return True


def _altered(given: Mapping[str, Any], field: str) -> dict[str, Any]:
    """A message without its tool calls, or with another text."""
    if field == "tool_calls":
        return {name: value for name, value in given.items() if name != field}
    keys = REASONING_KEYS if field == "reasoning" else {field}
    return {name: value + _OTHER if name in keys else value for name, value in given.items()}


def shows_tools(speech: Speech, text: str) -> bool:
    """Returns whether the text would be another without the tools that were offered."""
    if not speech.tools:
        return False
    try:
        return replace(speech, tools=()).rendered().text != text
    except TemplateRefusal:
        return True

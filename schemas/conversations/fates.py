"""What becomes of each part of a conversation in its template: shown as it is, rewritten, or dropped."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

from schemas.conversations.conversation import Message, ReasoningKey
from schemas.conversations.parts import MARK, Kind, Part, Parts, Source
from schemas.conversations.speech import Speech
from schemas.conversations.template import TemplateRefusal

Fate = Literal["shown", "rewritten", "dropped"]
PartKey = tuple[int, Kind]  # of which message
Field = tuple[int, str]

REASONING_KEYS = frozenset(get_args(ReasoningKey))


def find_fates(messages: Sequence[Message], shown: Sequence[Sequence[Part]], parts: Parts) -> Mapping[PartKey, Fate]:
    """The fate of every part that says more than blanks. `shown` are the parts of each message that are shown."""
    found: dict[PartKey, Fate] = {}
    unseen: dict[PartKey, Field] = {}  # by the template, or shown in a way that is not followed
    followed = {run.origin for run in parts.runs}
    for number, message in enumerate(messages):
        for kind, field in _said(message, parts.sources[number]):
            part = next((part for part in shown[number] if part.kind == kind), None)
            found[number, kind] = "dropped" if part is None else "shown" if part.verbatim else "rewritten"
            if part is None and (number, field) not in followed:
                unseen[number, kind] = (number, field)
    mattering = _find_mattering(sorted(set(unseen.values())), parts)
    return found | {key: "rewritten" for key, field in unseen.items() if field in mattering}


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


def _find_mattering(fields: Sequence[Field], parts: Parts) -> set[Field]:
    """Those without which the text would be another. All are tried at once, and halves only if some matter."""
    if not fields or not _matter(fields, parts):
        return set()
    half = len(fields) // 2
    return _find_mattering(fields[:half], parts) | _find_mattering(fields[half:], parts) if half else set(fields)


def _matter(fields: Sequence[Field], parts: Parts) -> bool:
    altered = list(parts.speech.messages)
    for number, field in fields:
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
    return {name: value + MARK if name in keys else value for name, value in given.items()}


def shows_tools(speech: Speech, text: str) -> bool:
    """Returns whether the text would be another without the tools that were offered."""
    if not speech.tools:
        return False
    try:
        return replace(speech, tools=()).rendered().text != text
    except TemplateRefusal:
        return True

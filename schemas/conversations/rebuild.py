"""The conversation of a cached sample, as a chat template takes it: for a student whose template is another.

It is what the teacher read: contents as its template showed them, and nothing of what it dropped. Every character knows
its place in the teacher's text.
"""

from dataclasses import dataclass
from typing import Any

from schemas.cache.samples import CachedSample
from schemas.cache.structure import BLOCK, Structure
from schemas.conversations.parts import Source
from schemas.conversations.show import track_calls
from schemas.conversations.tracked import Origin, Tracked

REASONING_KEY = "reasoning_content"  # that most templates look at


@dataclass(frozen=True)
class Rebuilt:
    """Messages in their order, whose numbers count from 0 without the ones that the teacher was not shown."""

    messages: list[dict[str, Any]]
    sources: list[Source]
    tools: tuple[Any, ...]
    numbers: list[int]  # of the messages in the cache


def rebuild(sample: CachedSample, inline: bool) -> Rebuilt:
    """The conversation of `sample`. With `inline`, reasoning stands in `<think>` tags before the content, because the
    template does not know it otherwise. Raises ValueError for a structure that is none."""
    structure, turns = Structure.load(sample.structure), sample.turns
    roles = {number: str(message["role"]) for number, message in structure.messages.items()}
    roles |= {turn.message: turn.role for turn in turns}
    found = Rebuilt([], [], structure.tools, sorted(roles))
    for number, original in enumerate(found.numbers):
        places = {str(turn.part): (turn.start, turn.end) for turn in turns if turn.message == original}
        beside = structure.messages.get(original, {})
        message = {"role": roles[original], "content": beside.get("content", ""), **_others(beside, number)}
        if isinstance(message["content"], str):
            message["content"] = Tracked.of(message["content"], Origin(number, "content"), None)
        has_block = BLOCK in beside
        if has_block:
            places["content"] = tuple(beside[BLOCK])
        if "content" in places:
            message["content"] = _of_text(sample.text, places["content"], Origin(number, "content"))
        if "reasoning" in places and not has_block:
            message |= _reasoning(sample.text, places["reasoning"], message["content"], number, inline)
        start, end = places.get("content", (0, 0))
        found.messages.append(message)
        found.sources.append(Source(roles[original], sample.text[start:end], start, REASONING_KEY in message))
    return found


def _others(beside: Any, number: int) -> dict[str, Any]:
    others = {key: value for key, value in beside.items() if key not in ("role", "content", BLOCK)}
    return others | ({"tool_calls": track_calls(others["tool_calls"], number)} if "tool_calls" in others else {})


def _of_text(text: str, place: tuple[int, int], origin: Origin) -> Tracked:
    return Tracked.of(text[slice(*place)], origin, place[0])


def _reasoning(text: str, place: tuple[int, int], content: Any, number: int, inline: bool) -> dict[str, Any]:
    reasoning = _of_text(text, place, Origin(number, "reasoning"))
    if not inline:
        return {REASONING_KEY: reasoning}
    return {"content": "<think>\n" + reasoning + "\n</think>\n\n" + (content or "")}

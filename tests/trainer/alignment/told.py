"""What a teacher was told of a conversation, as a record again; and where a student's characters stand in its text.

By the hand-made truth of both families alone: no rendering code, no tracking.
"""

from dataclasses import dataclass
from typing import Any

from tests.schemas.conversations.families import Family
from tests.schemas.conversations.sheet import content_parts
from tests.schemas.conversations.truth import Truth, Turn

KNOWS_REASONING = frozenset(["qwen3"])  # in a field of its own
KNOWS_TOOLS = frozenset(["llama3", "qwen25", "qwen3", "mistral"])


@dataclass(frozen=True)
class Told:
    """A record, and the number that each of its messages had."""

    record: dict[str, Any]
    numbers: list[int]


def told(record: dict[str, Any], teacher: Family, truth: Truth, student: Family) -> Told:
    """`record` as `teacher` shows it, for a student: contents as they stand in its text, and nothing of what it drops.

    A blank content that is not shown stays as it is.
    """
    last = max(turn.message for turn in truth.turns)
    shown = {n: _message(n, record["messages"][n], teacher, truth, student) for n in range(last + 1)}
    messages = {number: message for number, message in shown.items() if message is not None}
    tools = {"tools": record["tools"]} if record.get("tools") and teacher.name in KNOWS_TOOLS else {}
    return Told({"messages": list(messages.values()), **tools}, list(messages))


def places_in(teacher: Truth, student: Truth, said: Told) -> dict[int, tuple[int, int]]:
    """The range of the teacher's text that a character of the student's stands for, if it is of a turn: character k of
    a content is character k of it. An end of turn is one with its last character, and its others stand for nothing."""
    found: dict[int, tuple[int, int]] = {}
    theirs = {(turn.message, turn.part): turn for turn in teacher.turns}
    for own in student.turns:
        other = theirs.get((said.numbers[own.message], own.part))
        if own.part == "tool_calls":
            continue
        found |= dict.fromkeys(range(own.start, own.end), (0, 0))
        if other is None or _is_moved(own, other, teacher, student, said):
            continue
        if own.part == "end":
            found[own.end - 1] = (other.start, other.end)
            continue
        shown, whole = student.text[own.start : own.end], teacher.text[other.start : other.end]
        is_trimmed = shown == whole.strip()  # otherwise a template shows all of it, or its end
        first = other.start + (whole.index(shown) if is_trimmed else len(whole) - len(shown))
        assert teacher.text.startswith(shown, first)
        found |= {own.start + k: (first + k, first + k + 1) for k in range(len(shown))}
    return found


def _is_moved(own: Turn, other: Turn, teacher: Truth, student: Truth, said: Told) -> bool:
    """Whether a student's template puts what no assistant says before an answer that it stood behind, or behind it."""
    theirs = {turn.message: turn.start for turn in teacher.turns if turn.role == "assistant"}
    answers = [turn for turn in student.turns if turn.role == "assistant" and said.numbers[turn.message] in theirs]
    return own.role != "assistant" and any(
        (turn.start < own.start) != (theirs[said.numbers[turn.message]] < other.start) for turn in answers
    )


def _message(
    number: int, message: dict[str, Any], teacher: Family, truth: Truth, student: Family
) -> dict[str, Any] | None:
    places = {turn.part: turn for turn in truth.turns if turn.message == number}
    rewritten = {part for at, part in truth.rewritten if at == number}
    if not places and not rewritten and any(at == number for at, _ in truth.dropped):
        return None
    found = {key: message[key] for key in ("role", "name", "tool_call_id") if message.get(key) is not None}
    if "tool_calls" in places:
        found["tool_calls"] = message["tool_calls"]
    content, reasoning = _text(truth, places.get("content")), _text(truth, places.get("reasoning"))
    if not places or "content" in rewritten:
        content = message["content"] or ""
    block = "".join(content_parts(message)[:3]).lstrip()
    if block and teacher.name != "qwen3" and (place := _place(block, truth, places)) is not None:
        whole = block if truth.text.startswith(block, place) else block.rstrip()
        content, reasoning = whole + content, ""
    return found | _said(content, reasoning, student)


def _place(block: str, truth: Truth, places: dict[str, Turn]) -> int | None:
    """Where the text shows a block of reasoning as it stands, before the content or with nothing behind it."""
    if "content" in places:
        start = places["content"].start - len(block)
        return start if truth.text.startswith(block, max(start, 0)) else None
    if "reasoning" in places:
        return truth.text.rindex("<think>", 0, places["reasoning"].start)
    return None


def _said(content: str, reasoning: str, student: Family) -> dict[str, str]:
    if reasoning and student.name in KNOWS_REASONING:
        return {"content": content, "reasoning_content": reasoning}
    return {"content": f"<think>\n{reasoning}\n</think>\n\n{content}" if reasoning else content}


def _text(truth: Truth, turn: Turn | None) -> str:
    return "" if turn is None else truth.text[turn.start : turn.end]

"""What the rules of targets say of a conversation, by hand: no template, no rendering code."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from tests.schemas.conversations.by_hand import deepseek_r1, gemma3, llama3, mistral, plain, qwen3, qwen25
from tests.schemas.conversations.families import Family
from tests.schemas.conversations.sheet import Part, Range, RefusedByFamily, Sheet, content_parts, reasoning_of

Record = dict[str, Any]
PARTS = ("reasoning", "content", "tool_calls")
WRITERS = {
    "llama3": llama3.write,
    "qwen25": qwen25.write,
    "qwen3": qwen3.write,
    "mistral": mistral.write,
    "gemma3": gemma3.write,
    "smollm2": plain.smollm2,
    "phi3": plain.phi3,
    "zephyr": plain.zephyr,
    "chatml": plain.chatml,
    "deepseek_r1": deepseek_r1.write,
}


@dataclass(frozen=True)
class Choice:
    """What is learnt."""

    targets: Literal["all", "last"] = "all"
    reasoning: bool = True
    tool_calls: bool = True


CHOICES = tuple(
    Choice(targets, reasoning, calls)
    for targets in ("all", "last")
    for reasoning in (True, False)
    for calls in (True, False)
)


@dataclass(frozen=True)
class Turn:
    """A part that the text shows verbatim; `end` is an assistant's end-of-turn marker."""

    message: int
    role: str
    part: str
    start: int
    end: int


@dataclass(frozen=True)
class Truth:
    """The text that the teacher reads, in characters."""

    text: str
    targets: list[Range]
    turns: list[Turn]
    dropped: set[Part]
    """Parts of the messages up to the last target of which the text shows nothing."""
    rewritten: set[Part]
    """Those that it shows otherwise than as one run of their source."""


@dataclass(frozen=True)
class Refused:
    """`roles`, `tools`, `calls`, `null`: by the template. `content`: a target is not one run. `nothing`: no target."""

    reason: str


def uncut(family: Family, record: Record) -> str | Refused:
    """All that the family's template renders of `record`."""
    try:
        return WRITERS[family.name](record).text
    except RefusedByFamily as refused:
        return Refused(str(refused))


def truth(family: Family, record: Record, choice: Choice) -> Truth | Refused:
    """Text and targets of `record`. A null field of a message is as good as none, as it is to transformers."""
    try:
        sheet = WRITERS[family.name](record)
    except RefusedByFamily as refused:
        return Refused(str(refused))
    messages = record["messages"]
    chosen = list(chosen_parts(messages, choice))
    split = [part for number, part in chosen if (number, part) in sheet.split]
    if split:
        return Refused(split[0])
    learnt = [(number, part) for number, part in chosen if says_something(sheet, number, part)]
    if not learnt:
        return Refused("nothing")
    targets = merged(sorted(target(sheet, number, part) for number, part in learnt))
    cut, last = targets[-1][1], learnt[-1][0]
    return Truth(
        text=sheet.text[:cut],
        targets=targets,
        turns=[turn for turn in turns(sheet, messages) if turn.end <= cut],
        dropped={part for part in dropped(sheet, messages) if part[0] <= last},
        rewritten={part for part in sheet.split if part[0] <= last},
    )


def chosen_parts(messages: list[dict[str, Any]], choice: Choice) -> Iterator[Part]:
    assistants = [number for number, message in enumerate(messages) if message["role"] == "assistant"]
    parts = {"reasoning": choice.reasoning, "content": True, "tool_calls": choice.tool_calls}
    for number in assistants if choice.targets == "all" else assistants[-1:]:
        yield from ((number, part) for part in PARTS if parts[part])


def says_something(sheet: Sheet, number: int, part: str) -> bool:
    """Whether the text shows more of it than white space."""
    start, end = sheet.shown.get((number, part), (0, 0))
    return not sheet.text[start:end].isspace() and end > start


def target(sheet: Sheet, number: int, part: str) -> Range:
    """The range of one target part, through the end of turn if nothing follows it."""
    start, end = sheet.shown[number, part]
    following = [other for other in PARTS[PARTS.index(part) + 1 :] if (number, other) in sheet.shown]
    if part == "reasoning":
        start, end = sheet.begins[number], sheet.closed[number]
    if part == "tool_calls":
        start = calls_begin(sheet, number)
    return (start, end if following else sheet.ends[number][1])


def calls_begin(sheet: Sheet, number: int) -> int:
    """The end of the part before, its markup with it."""
    if (number, "content") in sheet.shown:
        return sheet.shown[number, "content"][1]
    return sheet.closed.get(number, sheet.begins[number])


def merged(ranges: list[Range]) -> list[Range]:
    """Ranges that touch are one."""
    found: list[Range] = []
    for start, end in ranges:
        if found and found[-1][1] == start:
            start = found.pop()[0]
        found.append((start, end))
    return found


def turns(sheet: Sheet, messages: list[dict[str, Any]]) -> list[Turn]:
    """Every part shown, in the order of the text; tool calls begin with their markup."""
    found = [
        Turn(number, messages[number]["role"], part, calls_begin(sheet, number) if part == "tool_calls" else start, end)
        for (number, part), (start, end) in sheet.shown.items()
    ]
    found += [Turn(number, "assistant", "end", start, end) for number, (start, end) in sheet.ends.items()]
    return sorted(found, key=lambda turn: turn.start)


def dropped(sheet: Sheet, messages: list[dict[str, Any]]) -> Iterator[Part]:
    """The parts that say something of which the text shows nothing."""
    for number, message in enumerate(messages):
        said = {
            "reasoning": bool(reasoning_of(message).strip()),
            "content": bool(content_parts(message)[3].strip()),
            "tool_calls": bool(message.get("tool_calls")),
        }
        shown = {part for at, part in (sheet.shown.keys() | sheet.split) if at == number}
        yield from ((number, part) for part in PARTS if said[part] and part not in shown)

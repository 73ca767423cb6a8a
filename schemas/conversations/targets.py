"""Which characters of a rendered conversation are learnt, and where each part of it stands."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from schemas.conversations.parts import Kind, Part, Parts

Range = tuple[int, int]


@dataclass(frozen=True)
class TargetChoice:
    """Which of what assistants say is learnt."""

    targets: Literal["all", "last"] = "all"
    reasoning: bool = True
    tool_calls: bool = True

    def wants(self, kind: Kind) -> bool:
        """Returns whether parts of a kind are learnt."""
        return {"content": True, "reasoning": self.reasoning, "tool_calls": self.tool_calls}[kind]


def find_targets(parts: Parts, messages: Iterable[int], wants: Callable[[Part], bool]) -> list[Range]:
    """Ranges of the text, ascending and apart, of those `messages`' parts that are wanted and not blank.

    The end of a turn is learnt with its last part, because that is when to stop.
    """
    found = list[Range]()
    for message in messages:
        shown = [part for part in parts.of(message) if parts.text[slice(*part.shown)].strip()]
        chosen = [(part.start, part.end) for part in shown if wants(part)]
        end = parts.end_of_turn(message)
        if chosen and end is not None and wants(shown[-1]):
            chosen.append((shown[-1].end, end[1]))
        found += chosen
    return _merged(found)


def _merged(ranges: Sequence[Range]) -> list[Range]:
    """Ranges that touch as one."""
    merged = list[Range]()
    for start, end in sorted(ranges):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged

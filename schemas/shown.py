"""How values stand in messages: short, on one line, and where a user gave them with nothing that a terminal obeys."""

import re
from collections.abc import Iterable
from typing import Any

LONGEST_VALUE = 80  # characters of a value
LONGEST_LINE = 2_000  # characters of a line of a message: paths may be long
MOST_NAMES = 12

# Control characters except line ends and tabs, what turns the direction of a line, and halves of characters.
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def quoted(value: Any) -> str:
    """`value` as Python writes it, shortened in the middle: quotes around text, control characters escaped."""
    if isinstance(value, str) and len(value) > LONGEST_VALUE:
        return f"{value[: LONGEST_VALUE // 2]!r}…{value[-LONGEST_VALUE // 4 :]!r} ({len(value):,} characters)"
    try:
        return _shorten(repr(value), LONGEST_VALUE)
    except ValueError:  # Python writes no integer of more than 4,300 digits
        return f"a {type(value).__name__} that is too long to be shown"


def listed(names: Iterable[Any]) -> str:
    """`names`, each as `quoted` shows it, with commas between them; the first few of many."""
    every = list(names)
    rest = f", and {len(every) - MOST_NAMES:,} others" if len(every) > MOST_NAMES else ""
    return (", ".join(map(quoted, every[:MOST_NAMES])) or "none") + rest


def percent(share: float) -> str:
    """With one decimal. Whoever reads 100.0% may trust that nothing is missing."""
    return f"{share if share >= 1 else min(share, 0.999):.1%}"


def counted(amount: float, what: str) -> str:
    """A number and its noun: 1 GPU, 0.5 GPUs, 1,200 shards."""
    number = f"{amount:,}" if isinstance(amount, int) else f"{amount:g}"
    return f"{number} {what}{'' if amount == 1 else 's'}"


def printable(message: str) -> str:
    """A whole message for a terminal: lines stay lines, every other character that cannot be seen is escaped."""
    return "\n".join(_shorten("".join(map(_visible, line)), LONGEST_LINE) for line in message.split("\n"))


def harmless(text: str) -> str:
    """A text that is itself what is shown: only what a terminal would obey is escaped, and nothing is shortened."""
    return _OBEYED.sub(lambda found: repr(found[0])[1:-1], text)


def _visible(character: str) -> str:
    if character.isprintable():
        return character
    return repr(character)[1:-1]


def _shorten(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest * 2 // 3]}…{text[-longest // 4 :]}"

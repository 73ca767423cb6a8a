"""What of a conversation its text does not say as it is: one JSON string per sample, empty for most.

Tools that were offered, tool calls, contents that the chat template rewrites (a tool's answer written as JSON), and
messages of which nothing is shown. Everything else is where the turns say.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

BLOCK = "block"  # a key of a message whose content begins with a block of reasoning: where the content is, [start, end)


@dataclass(frozen=True)
class Structure:
    """Of messages, by their number from 0, their role and what the turns do not say, as chat templates take it."""

    tools: tuple[Any, ...] = ()
    messages: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)

    def dump(self) -> str:
        """As it is stored."""
        if not self.tools and not self.messages:
            return ""
        found = {"tools": list(self.tools), "messages": {str(n): m for n, m in self.messages.items()}}
        # Keys keep their order: templates show tools and arguments of calls in it.
        return json.dumps(found, ensure_ascii=False, allow_nan=False, separators=(",", ":"))

    @classmethod
    def load(cls, text: str) -> "Structure":
        """Raises ValueError for what `dump` does not write."""
        if not text:
            return cls()
        found = json.loads(text)
        if not isinstance(found, dict) or set(found) != {"tools", "messages"}:
            raise ValueError("not an object of tools and messages")
        tools, messages = found["tools"], found["messages"]
        if not isinstance(tools, list) or not isinstance(messages, dict):
            raise ValueError("tools are a list, and messages an object")
        if not all(isinstance(message, dict) and isinstance(message.get("role"), str) for message in messages.values()):
            raise ValueError("a message has no role")
        if not all(number.isdecimal() and number == str(int(number)) for number in messages):
            raise ValueError("a message has no number")
        return cls(tuple(tools), {int(number): message for number, message in messages.items()})

    def cut(self, messages: int, length: int) -> "Structure":
        """What is left of it where only so many messages have a turn in a text that is cut at `length`."""
        kept = {number: dict(message) for number, message in self.messages.items() if number < messages}
        for message in kept.values():
            if BLOCK in message:
                message[BLOCK] = [min(place, length) for place in message[BLOCK]]
        return Structure(self.tools, kept)

    @classmethod
    def is_sound(cls, text: str, length: int) -> bool:
        """Returns whether `load` can read it, and chat templates what it says of a text of `length` characters."""
        try:
            found = cls.load(text)
        except (ValueError, RecursionError):
            return False
        return all(_is_sound(message, length) for message in found.messages.values())


def _is_sound(message: Mapping[str, Any], length: int) -> bool:
    texts = [message[key] for key in ("content", "name", "tool_call_id") if key in message]
    block, calls = message.get(BLOCK, [0, 0]), message.get("tool_calls", [])
    pair = isinstance(block, list) and len(block) == 2 and all(type(place) is int for place in block)
    return (
        bool(message["role"])
        and all(isinstance(text, str) for text in texts)
        and pair
        and 0 <= block[0] <= block[1] <= length
        and isinstance(calls, list)
        and all(isinstance(call, dict) and isinstance(call.get("function"), dict) for call in calls)
    )

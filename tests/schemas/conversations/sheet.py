"""A text that is written by hand from left to right, and where the parts of its messages came to stand."""

import re
from dataclasses import dataclass, field
from typing import Any

Message = dict[str, Any]
Part = tuple[int, str]
"""A message by its number in the record, and `reasoning`, `content` or `tool_calls`."""
Range = tuple[int, int]

BLOCK = re.compile(r"(\s*<think>\n*)(.*?)(\n*</think>\n*)", re.DOTALL)
REASONING = ("reasoning_content", "thinking", "reasoning")


class RefusedByFamily(Exception):
    """The template raises, or fails: `roles`, `tools`, `calls` or `null`."""


def reasoning_field(message: Message) -> str | None:
    """The reasoning that stands in a field of its own, under any of its names."""
    return next((message[name] for name in REASONING if message.get(name) is not None), None)


def content_parts(message: Message) -> tuple[str, str, str, str]:
    """(opening, reasoning, closing, rest) of a content, which joined are the content itself.

    The line ends beside the tags belong to the tags. A message with a field of reasoning has no block.
    """
    return split_block(message, message["content"] or "")


def split_block(message: Message, shown: str) -> tuple[str, str, str, str]:
    found = BLOCK.match(shown) if message["role"] == "assistant" and reasoning_field(message) is None else None
    return (found[1], found[2], found[3], shown[found.end() :]) if found else ("", "", "", shown)


def reasoning_of(message: Message) -> str:
    return reasoning_field(message) or content_parts(message)[1]


@dataclass
class Sheet:
    """What a family makes of a conversation."""

    text: str = ""
    shown: dict[Part, Range] = field(default_factory=dict)
    """Where the characters of a part stand, verbatim; the markup of tool calls is theirs."""
    begins: dict[int, int] = field(default_factory=dict)
    """Where the model begins to write a message."""
    closed: dict[int, int] = field(default_factory=dict)
    """Where the markup after a message's reasoning ends."""
    ends: dict[int, Range] = field(default_factory=dict)
    """The end-of-turn marker of an assistant's message."""
    split: set[Part] = field(default_factory=set)
    """Parts that are shown otherwise than as one run of their source."""

    def write(self, markup: str) -> None:
        self.text += markup

    def begin(self, number: int) -> None:
        self.begins[number] = len(self.text)

    def show(self, number: int, part: str, text: str) -> None:
        if text:
            self.shown[number, part] = (len(self.text), len(self.text) + len(text))
        self.write(text)

    def rewrite(self, number: int, part: str, text: str) -> None:
        self.split.add((number, part))
        self.write(text)

    def close(self, number: int, markup: str) -> None:
        """Writes what closes the reasoning."""
        self.write(markup)
        self.closed[number] = len(self.text)

    def end(self, number: int, marker: str) -> None:
        self.ends[number] = (len(self.text), len(self.text) + len(marker))
        self.write(marker)

    def show_whole(self, number: int, message: Message, shown: str, prompt: str = "") -> None:
        """Writes a content with the block of reasoning that it may begin with.

        `prompt` is what of the block the generation prompt has written already, if the block begins so.
        """
        opening, reasoning, closing, rest = split_block(message, shown)
        if not reasoning.strip():
            self.write(opening + reasoning + closing)
            if opening:
                self.begin(number)
        else:
            written = prompt if opening.startswith(prompt) else opening
            self.write(written)
            if prompt:
                self.begin(number)
            self.write(opening.removeprefix(written))
            self.show(number, "reasoning", reasoning)
            self.close(number, closing)
        self.show(number, "content", rest)

"""What a template is given, and what it says before an answer: the prompt that asks for it.

A prompt is a rendering of everything up to the answer, so a conversation of many answers would be rendered as often.
But what a prompt says after the last message depends on the kinds of the last messages alone, and where that has been
seen three times it is not rendered again. A conversation of 200 messages costs some ten renderings of a few messages.
"""

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from schemas.conversations.template import ChatTemplate, Rendered, TemplateRefusal

SWITCHES = ("/think", "/no_think")  # in a question or a system message: from there on, prompts may be others
_LAST = 2  # messages whose kinds decide a prompt
_SEEN = 3  # times in the same words


@dataclass(frozen=True)
class Speech:
    """What a template is given: messages, whose strings are tracked, and tools."""

    template: ChatTemplate
    messages: Sequence[dict[str, Any]]
    tools: Sequence[Any] = ()

    def rendered(self) -> Rendered:
        """All of it. Raises TemplateRefusal."""
        return self.template.render(self.messages, self.tools)

    def prompt(self, message: int) -> str | None:
        """What is said after the messages before, to ask for the answer that is to be this one; None if the template
        refuses to ask."""
        try:
            prompt = self.template.render(self.messages[:message], self.tools, add_generation_prompt=True)
        except TemplateRefusal:
            return None
        return prompt.text[max((run.end for run in prompt.runs), default=0) :]

    def ending(self, message: int) -> str:
        """What is said after a message if it is the last; nothing if the template refuses it so."""
        try:
            whole = self.template.render(self.messages[: message + 1], self.tools)
        except TemplateRefusal:
            return ""
        return whole.text[max((run.end for run in whole.runs), default=len(whole.text)) :]


class Prompts:
    """The prompts of a conversation, by the kinds of the messages before."""

    def __init__(self, speech: Speech):
        """Nothing is rendered before it is asked for."""
        self._speech = speech
        self._seen: dict[Hashable, list[str | None]] = defaultdict(list)
        self._own: dict[int, str | None] = {}
        self._switches = [_has_switch(message) for message in speech.messages]

    def of(self, message: int) -> str | None:
        """See `Speech.prompt`."""
        before = self._speech.messages[max(0, message - _LAST) : message]
        seen = self._seen[tuple(map(_kind, before)), sum(self._switches[:message])]
        names = _names(before)
        if len(seen) >= _SEEN and len(set(seen)) == 1:
            return None if seen[0] is None else _replaced(seen[0], {mark: name for name, mark in names.items()})
        if message not in self._own:
            own = self._own[message] = self._speech.prompt(message)
            seen.append(None if own is None else _replaced(own, names))
        return self._own[message]


def _names(before: Sequence[dict[str, Any]]) -> dict[str, str]:
    """What a tool's answer is called by, which a template may write behind it; each with a mark in its place."""
    last = before[-1] if before else {}
    return {last[key]: f"\0{key}\0" for key in ("name", "tool_call_id") if last.get(key)}


def _replaced(text: str, by: Mapping[str, str]) -> str:
    for old, new in by.items():
        text = text.replace(old, new)
    return text


def _kind(message: dict[str, Any]) -> Hashable:
    return message["role"], tuple(message), not str(message.get("content", "")).strip()


def _has_switch(message: dict[str, Any]) -> bool:
    content = message.get("content", "")
    return message["role"] != "assistant" and any(switch in content for switch in SWITCHES)

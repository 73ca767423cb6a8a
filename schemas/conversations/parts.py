"""What a rendered conversation says where: contents, reasoning, tool calls, ends of turns.

Characters are found by where they come from, not by looking for them. The words that a template puts around them come
from renderings of less: what stands before an answer from the prompt that asks for it, and the end of a turn from a
conversation of one question and one answer.

An assistant's message has up to three parts. Its content is exactly the characters of it that are shown. Its reasoning,
a field or a `<think>` block before the rest of the content, has the markup around it that has to be written, too: from
where an answer begins up to the next part. So have its tool calls, up to the end of the turn.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal

from schemas.conversations.template import ChatTemplate, Rendered, TemplateRefusal
from schemas.conversations.tracked import Origin, Run, Tracked

Kind = Literal["reasoning", "content", "tool_calls"]
KINDS: tuple[Kind, ...] = ("reasoning", "content", "tool_calls")
_CLOSE = "</think>"
_BLOCK = re.compile(r"\s*(?:<think>)?(.*?)</think>\s*", re.DOTALL)
_QUESTION, _ANSWER = "question", "answer"


@dataclass(frozen=True)
class Part:
    """A part of a message as it is shown. Places are characters of the text."""

    message: int
    kind: Kind
    start: int  # of what is learnt, if it is learnt
    end: int
    shown: tuple[int, int]  # its own characters
    verbatim: bool  # these are one run of the source

    @property
    def is_blank(self) -> bool:
        """Nothing of it is shown."""
        return self.shown[0] == self.shown[1]


@dataclass(frozen=True)
class Source:
    """What a message holds: the text of each field, and the place of its first character."""

    role: str
    content: str
    content_place: int = 0

    @cached_property
    def block(self) -> tuple[int, int, int] | None:
        """Where reasoning stands in the content, and where what follows begins; as characters of the content."""
        found = _BLOCK.match(self.content) if self.role == "assistant" else None
        return None if found is None else (*found.span(1), found.end())


class Parts:
    """The parts of a conversation that a template has rendered."""

    def __init__(self, rendered: Rendered, sources: Sequence[Source], speech: "Speech", markers: "Markers"):
        """`speech` is what was rendered; it is rendered again, up to messages whose beginning is asked for."""
        self.text, self.runs = rendered.text, rendered.runs
        self._sources, self._speech, self._markers = sources, speech, markers
        self._of = [[run for run in self.runs if run.origin.message == n] for n in range(len(sources))]

    def of(self, message: int) -> list[Part]:
        """Those of a message that are shown, in the order of the text."""
        found = [(kind, self._runs_of(message, kind)) for kind in KINDS]
        shown = sorted(((runs[0].start, runs[-1].end, kind, _is_one(runs)) for kind, runs in found if runs))
        parts, after = list[Part](), self.answer_start(message) if self._needs_start(message) else None
        for place, (start, end, kind, verbatim) in enumerate(shown):
            following = shown[place + 1][0] if place + 1 < len(shown) else self._before_end(message)
            begin = start if kind == "content" or after is None else self._behind_empty_block(after, start)
            close = end if kind == "content" else following
            parts.append(Part(message, kind, begin, close, (start, end), verbatim))
            after = close
        return parts

    def end_of_turn(self, message: int) -> tuple[int, int] | None:
        """Where the marker stands by which an assistant ends its turn; None if there is none."""
        if self._sources[message].role != "assistant" or not self._of[message] or self._markers.end is None:
            return None
        last, following = self._of[message][-1].end, self._next_start(message)
        place = self.text.find(self._markers.end, last, following)
        return None if place < 0 else (place, place + len(self._markers.end))

    def answer_start(self, message: int) -> int | None:
        """Where an assistant's message begins, behind the prompt that asks for it; None where that cannot be told."""
        first = self._of[message][0].start
        before = max((runs[-1].end for runs in self._of[:message] if runs), default=0)
        try:
            prompt = self._speech.prompt(message)
        except TemplateRefusal:
            prompt = ""
        shared = _shared(prompt, self.text[:first])
        if before < shared:
            return shared
        place = self.text.rfind(self._markers.header, before, first) if self._markers.header else -1
        return None if place < 0 else place + len(self._markers.header)

    def _runs_of(self, message: int, kind: Kind) -> list[Run]:
        source, found = self._sources[message], list[Run]()
        for run in self._of[message]:
            if run.origin.field == "content":
                found += _inside(run, source, kind)
            elif run.origin.field == kind:
                found.append(run)
        return _without_blanks(found, self.text) if kind != "content" else found

    def _needs_start(self, message: int) -> bool:
        if self._sources[message].role != "assistant":
            return False
        return (
            any(run.origin.field != "content" for run in self._of[message]) or self._sources[message].block is not None
        )

    def _before_end(self, message: int) -> int:
        """Where the markup after a message's last part ends, if that is not a content."""
        end = self.end_of_turn(message)
        return self._of[message][-1].end if end is None else end[0]

    def _behind_empty_block(self, after: int, start: int) -> int:
        """Where markup in [after, start) begins, without a block of reasoning that the template fills in empty."""
        closed = self.text.rfind(_CLOSE, after, start)
        if closed < 0:
            return after
        behind = self.text[closed + len(_CLOSE) : start]
        return start - len(behind.lstrip())

    def _next_start(self, message: int) -> int:
        return min((runs[0].start for runs in self._of[message + 1 :] if runs), default=len(self.text))


@dataclass(frozen=True)
class Speech:
    """What a template is given: messages, whose strings are tracked, and tools."""

    template: ChatTemplate
    messages: Sequence[dict[str, Any]]
    tools: Sequence[Any] = ()

    def rendered(self) -> Rendered:
        """All of it. Raises TemplateRefusal."""
        return self.template.render(self.messages, self.tools)

    def prompt(self, message: int) -> str:
        """What precedes the answer that is to be this message. Raises TemplateRefusal."""
        return self.template.render(self.messages[:message], self.tools, add_generation_prompt=True).text


@dataclass(frozen=True)
class Markers:
    """The words of a template around an answer."""

    header: str  # the prompt that asks for it, from the end of the question on
    end: str | None  # the special token by which it ends

    @classmethod
    def of(cls, template: ChatTemplate, special_tokens: Sequence[str]) -> "Markers":
        """Learnt from one question and one answer. Raises TemplateRefusal: the template renders not even these."""
        question = {"role": "user", "content": Tracked.of(_QUESTION, Origin(0, "content"))}
        answer = {"role": "assistant", "content": Tracked.of(_ANSWER, Origin(1, "content"))}
        whole, asked = template.render([question, answer]), template.render([question]).text
        prompt = template.render([question], add_generation_prompt=True).text
        behind = max((run.end for run in whole.runs if run.origin.message == 1), default=len(whole.text))
        places = [(place, -len(token)) for token in special_tokens if (place := whole.text.find(token, behind)) >= 0]
        end = None
        if places:
            place, length = min(places)
            end = whole.text[place : place - length]
        return cls(prompt.removeprefix(asked) if prompt.startswith(asked) else "", end)


def _shared(first: str, second: str) -> int:
    """Characters that two texts begin with alike."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((place for place, (left, right) in pairs if left != right), min(len(first), len(second)))


def _inside(run: Run, source: Source, kind: Kind) -> list[Run]:
    """What of a run of the content belongs to a part of it."""
    if source.block is None or run.place is None:
        return [run] if kind == "content" else []
    first, last, rest = (place + source.content_place for place in source.block)
    start, end = {"reasoning": (first, last), "content": (rest, rest + len(source.content))}.get(kind, (0, 0))
    length = run.end - run.start
    low, high = max(start, run.place), min(end, run.place + length)
    moved = run.start - run.place
    return [Run(low + moved, high + moved, run.origin, low)] if low < high else []


def _without_blanks(runs: list[Run], text: str) -> list[Run]:
    return runs if any(text[run.start : run.end].strip() for run in runs) else []


def _is_one(runs: Sequence[Run]) -> bool:
    return all(run.place is not None for run in runs) and all(
        before.end == after.start and before.place + before.end - before.start == after.place  # type: ignore[operator]
        for before, after in pairwise(runs)
    )

"""What a rendered conversation says where: contents, reasoning, tool calls, ends of turns.

Characters are found by where they come from, not by looking for them. The words that a template puts around them come
from renderings of less: what stands before an answer from the prompt that asks for it, and the end of a turn from a
conversation of one question and one answer.

An assistant's message has up to three parts. Its content is exactly the characters of it that are shown. Its reasoning,
a field or a `<think>` block before the rest of the content, has the markup around it that has to be written, too: from
where an answer begins up to the next part. So have its tool calls, up to the end of the turn.
"""

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice, pairwise
from typing import Literal

from schemas.conversations.speech import Prompts, Speech
from schemas.conversations.template import ChatTemplate, Rendered, TemplateRefusal
from schemas.conversations.tracked import Origin, Run, Tracked

Kind = Literal["reasoning", "content", "tool_calls"]
KINDS: tuple[Kind, ...] = ("reasoning", "content", "tool_calls")
MARK = "\N{MIDDLE DOT}"  # put into a text, to see whether anything of it is shown there
OPEN, _CLOSE = "<think>", "</think>"
# Line ends beside its tags belong to these.
_BLOCK = re.compile(r"\s*<think>\n*(.*?)\n*</think>\n*", re.DOTALL)
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


@dataclass(frozen=True)
class Source:
    """What a message holds: the text of each field, and the place of its first character."""

    role: str
    content: str
    content_place: int = 0
    has_field: bool = False  # for its reasoning: then the content has no block of it

    @cached_property
    def block(self) -> tuple[int, int, int] | None:
        """Where reasoning stands in the content, and where what follows begins; as characters of the content."""
        has_none = self.role != "assistant" or self.has_field
        found = None if has_none else _BLOCK.match(self.content)
        return None if found is None else (*found.span(1), found.end())


class Parts:
    """The parts of a conversation that a template has rendered."""

    def __init__(self, rendered: Rendered, sources: Sequence[Source], speech: Speech, markers: "Markers"):
        """`speech` is what was rendered; it is rendered again, up to messages whose beginning is asked for."""
        self.text, self.runs, self.sources = rendered.text, rendered.runs, sources
        self.speech, self._markers, self._prompts = speech, markers, Prompts(speech)
        self._of: list[list[Run]] = [[] for _ in sources]
        for run in self.runs:
            self._of[run.origin.message].append(run)
        self._found: dict[int, list[Part]] = {}

    def of(self, message: int) -> list[Part]:
        """Those of a message that are shown, in the order of the text."""
        if message not in self._found:
            self._found[message] = self._find(message)
        return self._found[message]

    def _find(self, message: int) -> list[Part]:
        found = [(kind, self._runs_of(message, kind)) for kind in KINDS]
        shown = sorted(
            (runs[0].start, runs[-1].end, kind, _is_one(runs) and not self._goes_on(message, kind, runs))
            for kind, runs in found
            if runs
        )
        parts, after = list[Part](), None
        for place, (start, end, kind, verbatim) in enumerate(shown):
            following = shown[place + 1][0] if place + 1 < len(shown) else self._before_end(message)
            begin, close = start, end
            if kind == "reasoning":
                begin = self._prompt_end(message) or start
                close = self._block_end(message) or self._behind_close(end, following)
            elif kind == "tool_calls":
                after = self._prompt_end(message, whole=False) if after is None else after
                begin, close = self._behind_close(start if after is None else after, start), following
            parts.append(Part(message, kind, begin, close, (start, end), verbatim))
            after = close
        return parts

    def _goes_on(self, message: int, kind: Kind, runs: Sequence[Run]) -> bool:
        """Whether more of a content matters than is followed: its first letter as a capital, its lines indented. What
        a template leaves out does not, and nor do blanks that it trims."""
        source, first, last = self.sources[message], runs[0].place, runs[-1].place
        if kind != "content" or first is None or last is None:
            return False
        begin = 0 if source.block is None else source.block[2]
        low = first - source.content_place
        high = last - source.content_place + runs[-1].end - runs[-1].start
        before, after = source.content[begin:low], source.content[high:]
        edges = [(begin, low - len(before.lstrip()))] if before.strip() else []
        edges += [(len(source.content), high + len(after.rstrip()) - 1)] if after.strip() else []
        return any(self._matters(message, *edge) for edge in edges)

    def _matters(self, message: int, end: int, within: int) -> bool:
        """Whether a content is shown up to its `end` in a way that is not followed: one more character there would be,
        and another one `within` would make another text."""
        content = str.__str__(self.speech.messages[message]["content"])
        moved = len(content) - len(self.sources[message].content)  # reasoning that is put before it
        end, within = end + moved, within + moved
        more = self._rendered_with(message, content[:end] + MARK + content[end:])
        if more is not None and (more.text == self.text or _follows(more, message, end)):
            return False
        other = self._rendered_with(message, content[:within] + MARK + content[within + 1 :])
        return other is None or other.text != self.text

    def _rendered_with(self, message: int, content: str) -> Rendered | None:
        altered = list(self.speech.messages)
        altered[message] = altered[message] | {"content": Tracked.of(content, Origin(message, "content"))}
        try:
            return replace(self.speech, messages=altered).rendered()
        except TemplateRefusal:
            return None

    def with_block(self, message: int) -> tuple[int, int] | None:
        """Where a content is shown as it stands, with a block of reasoning; None if it has none, or is not."""
        own, block = [run for run in self._of[message] if run.origin.field == "content"], self.sources[message].block
        is_shown = block is not None and len(own) == 1 and own[0].place is not None and own[0].place < block[0]
        return (own[0].start, own[0].end) if is_shown else None

    def end_of_turn(self, message: int) -> tuple[int, int] | None:
        """Where the marker stands by which an assistant ends its turn; None if there is none."""
        if self.sources[message].role != "assistant" or self._markers.end is None:
            return None
        own = self._of[message]
        last = own[-1].end if own else self._prompt_end(message, whole=False)
        if last is not None and not own and message and not self._of[message - 1]:  # another without words
            last = max(last, (self.end_of_turn(message - 1) or (0, 0))[1])
        if last is None:
            return None
        place = self.text.find(self._markers.end, last, self._next_start(message))
        return self._other_end(message, last) if place < 0 else (place, place + len(self._markers.end))

    def _other_end(self, message: int, last: int) -> tuple[int, int] | None:
        """Of a turn that ends otherwise than a plain answer, with a call of a tool say: the first special token that is
        said after it, if nothing follows it."""
        said = self.speech.ending(message)
        found = re.search("|".join(map(re.escape, self._markers.special)), said)
        if found is None or not self.text.startswith(said[: found.end()], last):
            return None
        return last + found.start(), last + found.end()

    def _prompt_end(self, message: int, whole: bool = True) -> int | None:
        """Where an assistant's message begins, behind the prompt that asks for it; None if the text goes on otherwise.

        What counts is what the prompt says after the message before: earlier ones may be shown otherwise in it. Unless
        it is wanted `whole`, what the text has of it up to a special token is enough: of `<|Assistant|><think>` the
        first.
        """
        before, first = self._gap(message)
        asks = self._prompts.of(message)
        if asks is None:
            return None
        ends = {match.end() for token in self._markers.special for match in re.finditer(re.escape(token), asks)}
        for length in sorted({len(asks)} | (set() if whole else ends), reverse=True):
            if before + length <= first and self.text.startswith(asks[:length], before):
                return before + length
        return None

    def _gap(self, message: int) -> tuple[int, int]:
        """Between what is shown of other messages before this one, and its own first character."""
        first = self._of[message][0].start if self._of[message] else self._next_start(message)
        place = bisect_left(self._starts, first)
        while place and self.runs[place - 1].origin.message >= message:
            place -= 1
        return (self.runs[place - 1].end if place else 0), first

    def _runs_of(self, message: int, kind: Kind) -> list[Run]:
        source, found = self.sources[message], list[Run]()
        for run in self._of[message]:
            if run.origin.field == "content":
                found += _inside(run, source, kind)
            elif run.origin.field == kind:
                found.append(run)
        return _without_blanks(found, self.text) if kind != "content" else found

    def _before_end(self, message: int) -> int:
        """Where the markup after a message's last part ends, if that is not a content."""
        end = self.end_of_turn(message)
        return self._of[message][-1].end if end is None else end[0]

    def _block_end(self, message: int) -> int | None:
        """Behind a block of reasoning and the line ends after it, if it is shown in the content."""
        block = self.sources[message].block
        for run in self._of[message]:
            if block is not None and run.origin.field == "content" and run.place is not None:
                end = run.start + block[2] + self.sources[message].content_place - run.place
                return end if run.start < end <= run.end else None
        return None

    def _behind_close(self, start: int, end: int) -> int:
        """Behind the tag in [start, end) that closes a block of reasoning, and the line ends after it; `start` if there
        is none."""
        place = self.text.rfind(_CLOSE, start, end)
        if place < 0:
            return start
        behind = self.text[place + len(_CLOSE) : end]
        return end - len(behind.lstrip("\n"))

    def _next_start(self, message: int) -> int:
        """Where the first message after this one is shown; the text's end if none is."""
        own = self._of[message]
        last = own[-1].end if own else max((runs[-1].end for runs in self._of[:message] if runs), default=0)
        later = islice(self.runs, bisect_left(self._starts, last), None)
        return next((run.start for run in later if run.origin.message > message), len(self.text))

    @cached_property
    def _starts(self) -> list[int]:
        return [run.start for run in self.runs]


@dataclass(frozen=True)
class Markers:
    """The words of a template around an answer."""

    special: tuple[str, ...]  # the special tokens, as they are spelled
    end: str | None  # the one by which an answer ends

    @classmethod
    def of(cls, template: ChatTemplate, special_tokens: Sequence[str]) -> "Markers":
        """Learnt from one question and one answer. Raises TemplateRefusal: the template renders not even these, or
        shows nothing of the answer."""
        question = {"role": "user", "content": Tracked.of(_QUESTION, Origin(0, "content"))}
        answer = {"role": "assistant", "content": Tracked.of(_ANSWER, Origin(1, "content"))}
        whole = template.render([question, answer])
        behind = max((run.end for run in whole.runs if run.origin.message == 1), default=None)
        if behind is None:
            raise TemplateRefusal("the chat template shows nothing of the answer as it is")
        places = [(place, -len(token)) for token in special_tokens if (place := whole.text.find(token, behind)) >= 0]
        place, length = min(places, default=(0, 0))
        return cls(tuple(special_tokens), whole.text[place : place - length] or None)


def _follows(rendered: Rendered, message: int, place: int) -> bool:
    """Returns whether a character of a content is shown as one."""
    return any(
        run.origin == (message, "content") and run.place is not None and 0 <= place - run.place < run.end - run.start
        for run in rendered.runs
    )


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

"""A conversation as a model reads it: its text, what of that is learnt, and where each message stands.

What the template shows as it is needs no second copy: `turns` say where. Only what it rewrites (tool calls, a tool's
answer written as JSON) and messages of which nothing is shown are kept beside the text, in `structure`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from schemas.cache.samples import Turn
from schemas.cache.structure import Structure
from schemas.conversations.conversation import Conversation, Message
from schemas.conversations.parts import Markers, Part, Parts, Source, Speech
from schemas.conversations.targets import Range, TargetChoice, find_targets
from schemas.conversations.template import ChatTemplate, TemplateRefusal
from schemas.conversations.tracked import Origin, Tracked

_OTHER = "\N{MIDDLE DOT}"  # appended to a text, to see whether anything of it is shown


@dataclass(frozen=True)
class Shown:
    """A conversation as its template shows it, cut where the last target ends."""

    text: str
    targets: tuple[Range, ...]  # empty where nothing is left to learn
    turns: tuple[Turn, ...] = ()
    structure: str = ""
    dropped: tuple[tuple[int, str], ...] = ()  # message and field of which the template shows nothing
    rewritten: tuple[tuple[int, str], ...] = ()  # that it shows otherwise than they are


@dataclass(frozen=True)
class Reader:
    """Reads conversations as one model does: with its template, and for what is to be learnt."""

    template: ChatTemplate
    markers: Markers  # the template's
    choice: TargetChoice
    system: str | None = None  # a system message for conversations without

    def show(self, conversation: Conversation) -> Shown:
        """Raises TemplateRefusal: the template refuses it, or a part that is to be learnt is not shown as it is."""
        conversation = self._with_system(conversation)
        messages = conversation.messages
        speech = Speech(self.template, [track(n, message) for n, message in enumerate(messages)], conversation.tools)
        rendered = speech.rendered()
        plain = self.template.render([message.for_template() for message in messages], conversation.tools)
        if plain.text != rendered.text:
            raise TemplateRefusal("the chat template does not treat its contents as texts, so they cannot be followed")
        parts = Parts(rendered, [Source(m.role, m.content) for m in messages], speech, self.markers)
        shown = _Shown(conversation, parts, speech)
        learnt = [n for n, message in enumerate(messages) if message.role == "assistant"]
        learnt = learnt[-1:] if self.choice.targets == "last" else learnt
        shown.require_located(learnt, self.choice)
        targets = find_targets(parts, learnt, lambda part: self.choice.wants(part.kind))
        return shown.cut(targets)

    def _with_system(self, conversation: Conversation) -> Conversation:
        if self.system is None or conversation.messages[0].role in ("system", "developer"):
            return conversation
        return replace(conversation, messages=(Message("system", self.system), *conversation.messages))


def track(number: int, message: Message) -> dict[str, Any]:
    """What a template is given of a message, its strings tracked."""
    given = message.for_template()
    if given["content"] is not None:
        given["content"] = Tracked.of(message.content, Origin(number, "content"))
    if message.reasoning_key is not None:
        given[message.reasoning_key] = Tracked.of(message.reasoning, Origin(number, "reasoning"))
    if message.tool_calls:
        given["tool_calls"] = track_calls(given["tool_calls"], number)
    return given


def track_calls(value: Any, number: int) -> Any:
    """Tool calls whose strings say of which message they are; where in it they stand is not followed."""
    if isinstance(value, str):
        return Tracked.of(value, Origin(number, "tool_calls"), None)
    if isinstance(value, dict):
        return {key: track_calls(item, number) for key, item in value.items()}
    return [track_calls(item, number) for item in value] if isinstance(value, list) else value


class _Shown:
    """What became of each message."""

    def __init__(self, conversation: Conversation, parts: Parts, speech: Speech):
        self._messages, self._tools, self._parts, self._speech = (
            conversation.messages,
            conversation.tools,
            parts,
            speech,
        )
        self._of = [parts.of(number) for number in range(len(self._messages))]
        self._fates = {
            (n, field): self._fate(n, field) for n in range(len(self._messages)) for field in _fields(self._messages[n])
        }

    def require_located(self, learnt: Sequence[int], choice: TargetChoice) -> None:
        """Raises TemplateRefusal if something that is to be learnt is shown, and not as it is."""
        for number in learnt:
            for kind in ("content", "reasoning"):
                if choice.wants(kind) and self._is_lost(number, kind):
                    raise TemplateRefusal(
                        f"the chat template rewrites the {kind} of message {number + 1}, so what is to be learnt of it "
                        "cannot be located"
                    )

    def cut(self, targets: Sequence[Range]) -> Shown:
        """All of it up to where the last target ends."""
        end = targets[-1][1] if targets else len(self._parts.text)
        turns = tuple(turn for n in range(len(self._messages)) for turn in self._turns(n) if turn.end <= end)
        last = max((turn.message for turn in turns), default=-1)
        return Shown(
            text=self._parts.text[:end],
            targets=tuple(targets),
            turns=tuple(sorted(turns, key=lambda turn: (turn.start, turn.end))),
            structure=self._structure(last).dump(),
            dropped=tuple(key for key, fate in self._fates.items() if fate == "dropped"),
            rewritten=tuple(key for key, fate in self._fates.items() if fate == "rewritten"),
        )

    def _is_lost(self, number: int, kind: str) -> bool:
        shown = [part for part in self._of[number] if part.kind == kind]
        if shown:
            return not shown[0].verbatim
        return kind == "content" and self._fates.get((number, "content")) == "rewritten"

    def _fate(self, number: int, field: str) -> str:
        runs = [run for run in self._parts.runs if run.origin == (number, field)]
        if runs:
            return "rewritten" if any(run.place is None for run in runs) else "shown"
        altered = list(self._speech.messages)
        altered[number] = _altered(altered[number], field, self._messages[number])
        try:
            same = replace(self._speech, messages=altered).rendered().text == self._parts.text
        except TemplateRefusal:
            same = False
        return "dropped" if same else "rewritten"

    def _turns(self, number: int) -> Iterator[Turn]:
        message, parts = self._messages[number], self._of[number]
        own = [run for run in self._parts.runs if run.origin == (number, "content")]
        if len(own) == 1 and own[0].place is not None:  # with a block of reasoning, if it has one
            yield Turn(number, message.role, "content", own[0].start, own[0].end)
        for part in parts:
            if part.kind == "tool_calls":
                yield Turn(number, message.role, "tool_calls", part.start, part.end)
            elif part.verbatim and not _is_in(part, own):
                yield Turn(number, message.role, part.kind, *part.shown)
        end = self._parts.end_of_turn(number)
        if end is not None:
            yield Turn(number, message.role, "end", *end)

    def _structure(self, last: int) -> Structure:
        messages = {}
        for number, message in enumerate(self._messages[: last + 1]):
            beside = self._beside(number, message)
            if beside:
                messages[number] = beside
        return Structure(self._tools if self._shows_tools else (), messages)

    def _beside(self, number: int, message: Message) -> dict[str, Any]:
        """What of a message the turns do not say."""
        turns, given = list(self._turns(number)), message.for_template()
        found: dict[str, Any] = {}
        if self._fates.get((number, "content")) == "rewritten" and not any(turn.part == "content" for turn in turns):
            found["content"] = message.content
        if self._fates.get((number, "tool_calls"), "dropped") != "dropped":
            found["tool_calls"] = given["tool_calls"]
        found |= {key: given[key] for key in ("name", "tool_call_id") if key in given}
        if not turns and not self._is_dropped(number):
            found.setdefault("content", given["content"])
        return {"role": message.role, **found} if found else {}

    def _is_dropped(self, number: int) -> bool:
        fates = [self._fates[number, field] for field in _fields(self._messages[number])]
        return bool(fates) and all(fate == "dropped" for fate in fates)

    @cached_property
    def _shows_tools(self) -> bool:
        if not self._tools:
            return False
        try:
            return replace(self._speech, tools=()).rendered().text != self._parts.text
        except TemplateRefusal:
            return True


def _fields(message: Message) -> list[str]:
    """The fields that hold more than blanks."""
    held = {
        "content": message.content.strip(),
        "reasoning": message.reasoning.strip(),
        "tool_calls": message.tool_calls,
    }
    return [field for field, value in held.items() if value]


def _altered(given: dict[str, Any], field: str, message: Message) -> dict[str, Any]:
    key = message.reasoning_key if field == "reasoning" else field
    assert key is not None
    if field == "tool_calls":
        return {name: value for name, value in given.items() if name != key}
    return given | {key: given[key] + _OTHER}


def _is_in(part: Part, own: Sequence[Any]) -> bool:
    return len(own) == 1 and own[0].start <= part.shown[0] and part.shown[1] <= own[0].end

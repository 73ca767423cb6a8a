"""A conversation as a model reads it: its text, what of that is learnt, and where each message stands.

What the template shows as it is needs no second copy: `turns` say where. Only what it rewrites (tool calls, a tool's
answer written as JSON) and messages of which nothing is shown are kept beside the text, in `structure`.

Costs three or four renderings: 0.3 ms per conversation of 2 messages, 0.7 ms of 8, 3 ms of 40, and 50 to 130 ms of an
agent's 200, half of which are calls and their answers.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from schemas.cache.samples import Turn
from schemas.cache.structure import BLOCK, Structure
from schemas.conversations.conversation import Conversation, Message
from schemas.conversations.fates import REASONING_KEYS, Fate, PartKey, find_fates, shows_tools
from schemas.conversations.parts import Markers, Part, Parts, Source
from schemas.conversations.speech import Speech
from schemas.conversations.targets import Range, TargetChoice, find_targets
from schemas.conversations.template import ChatTemplate, TemplateRefusal
from schemas.conversations.tracked import Origin, Tracked


@dataclass(frozen=True)
class Shown:
    """A conversation as its template shows it, cut where the last target ends."""

    text: str
    targets: tuple[Range, ...]  # empty where nothing is left to learn
    turns: tuple[Turn, ...] = ()
    structure: str = ""
    dropped: tuple[PartKey, ...] = ()  # parts of these messages of which the template shows nothing
    rewritten: tuple[PartKey, ...] = ()  # that it shows otherwise than they are


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
        parts = Parts(rendered, [_source(message) for message in messages], speech, self.markers)
        assistants = [number for number, message in enumerate(messages) if message.role == "assistant"]
        last = assistants[-1:] if self.choice.targets == "last" else assistants
        learnt = [number for number in last if messages[number].learnt]
        shown = [parts.of(number) for number in range(len(messages))]
        fates = find_fates(messages, shown, parts)
        self._require_located(learnt, fates)
        return _cut(
            messages, parts, shown, fates, find_targets(parts, learnt, lambda part: self.choice.wants(part.kind))
        )

    def _require_located(self, learnt: Sequence[int], fates: Mapping[PartKey, Fate]) -> None:
        for (number, kind), fate in fates.items():
            # Where tool calls stand follows from what stands around them: templates always rewrite them.
            if fate == "rewritten" and number in learnt and kind != "tool_calls" and self.choice.wants(kind):
                raise TemplateRefusal(
                    f"the chat template rewrites the {kind} of message {number + 1}, so what is to be learnt of it "
                    "cannot be located"
                )

    def _with_system(self, conversation: Conversation) -> Conversation:
        if self.system is None or conversation.messages[0].role in ("system", "developer"):
            return conversation
        return replace(conversation, messages=(Message("system", self.system), *conversation.messages))


def track(number: int, message: Message) -> dict[str, Any]:
    """What a template is given of a message, its strings tracked."""
    given = message.for_template()
    if "content" in given:
        given["content"] = Tracked.of(message.content, Origin(number, "content"))
    for key in REASONING_KEYS & given.keys():
        given[key] = Tracked.of(message.reasoning, Origin(number, "reasoning"))
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


def _source(message: Message) -> Source:
    return Source(message.role, message.content, has_field=message.reasoning_key is not None)


def _cut(
    messages: Sequence[Message],
    parts: Parts,
    shown: Sequence[Sequence[Part]],
    fates: Mapping[PartKey, Fate],
    targets: Sequence[Range],
) -> Shown:
    """All of it up to where the last target ends."""
    end = targets[-1][1] if targets else len(parts.text)
    turns = [list(_turns(number, message, shown[number], parts)) for number, message in enumerate(messages)]
    kept = sorted((turn for own in turns for turn in own if turn.end <= end), key=lambda turn: (turn.start, turn.end))
    last = max((turn.message for turn in kept), default=-1)
    own: list[dict[str, Fate]] = [{} for _ in messages]
    for (number, kind), fate in fates.items():
        own[number][kind] = fate
    beside = {n: _beside(message, turns[n], own[n], parts.with_block(n)) for n, message in enumerate(messages)}
    tools = parts.speech.tools if shows_tools(parts.speech, parts.text) else ()
    return Shown(
        text=parts.text[:end],
        targets=tuple(targets),
        turns=tuple(kept),
        structure=Structure(tuple(tools), {n: found for n, found in beside.items() if found and n <= last}).dump(),
        dropped=tuple(key for key, fate in fates.items() if fate == "dropped" and key[0] <= last),
        rewritten=tuple(key for key, fate in fates.items() if fate == "rewritten" and key[0] <= last),
    )


def _turns(number: int, message: Message, shown: Sequence[Part], parts: Parts) -> Iterator[Turn]:
    for part in shown:
        if part.kind == "tool_calls":
            yield Turn(number, message.role, "tool_calls", part.start, part.end)
        elif part.verbatim:
            yield Turn(number, message.role, part.kind, *part.shown)
    end = parts.end_of_turn(number)
    if end is not None:
        yield Turn(number, message.role, "end", *end)


def _beside(message: Message, turns: Sequence[Turn], own: Mapping[str, Fate], block: Range | None) -> dict[str, Any]:
    """What of a message the turns do not say; nothing of one that is dropped. `own` are the fates of its parts."""
    given = message.for_template()
    found: dict[str, Any] = {key: given[key] for key in ("name", "tool_call_id") if key in given}
    if own.get("content") == "rewritten":
        found["content"] = message.content
    if own.get("tool_calls", "dropped") != "dropped":
        found["tool_calls"] = given["tool_calls"]
    if block is not None:
        found[BLOCK] = list(block)
    is_dropped = bool(own) and set(own.values()) == {"dropped"}
    if not turns and not is_dropped:
        found.setdefault("content", message.content)
    return {"role": message.role, **found} if found and not (is_dropped and not turns) else {}

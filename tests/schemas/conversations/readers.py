"""The families' templates as a model reads conversations by them."""

from collections.abc import Sequence
from functools import cache

from schemas.conversations.conversation import Conversation
from schemas.conversations.layout import LAYOUTS
from schemas.conversations.parts import Markers
from schemas.conversations.show import Reader, Shown
from schemas.conversations.targets import TargetChoice
from schemas.conversations.template import ChatTemplate
from tests.schemas.conversations.families import FAMILIES, Family
from tests.schemas.conversations.record import Case, Message
from tests.schemas.conversations.truth import Choice

NAMED = {family.name: family for family in FAMILIES}
EVERYTHING = TargetChoice()


def template_of(family: Family) -> ChatTemplate:
    return ChatTemplate(family.template, {"bos_token": family.bos or "", "eos_token": family.eos}, family.arguments)


@cache
def reader_of(family: Family, choice: TargetChoice = EVERYTHING, system: str | None = None) -> Reader:
    template = template_of(family)
    return Reader(template, Markers.of(template, family.special), choice, system)


def chosen(choice: Choice) -> TargetChoice:
    return TargetChoice(choice.targets, choice.reasoning, choice.tool_calls)


def conversation_of_case(case: Case) -> Conversation:
    return LAYOUTS.find("messages").read(case.record, "messages", "tools" if "tools" in case.record else None, "r")


def talk(messages: Sequence[Message], tools: Sequence[object] = ()) -> Conversation:
    record = {"messages": list(messages), "tools": list(tools)}
    return LAYOUTS.find("messages").read(record, "messages", "tools", "r")


def show(family: str, *messages: Message, choice: TargetChoice = EVERYTHING, tools: Sequence[object] = ()) -> Shown:
    """Those messages in the template of that family."""
    return reader_of(NAMED[family], choice).show(talk(messages, tools))

"""The conversations of the tests as a family's template shows them, by the code."""

from functools import cache
from typing import Any

from schemas.conversations.layout import LAYOUTS
from schemas.conversations.parts import Markers
from schemas.conversations.show import Reader, Shown
from schemas.conversations.targets import TargetChoice
from schemas.conversations.template import ChatTemplate, TemplateRefusal
from tests.schemas.conversations.families import Family
from tests.schemas.conversations.record import Case
from tests.schemas.conversations.truth import Choice


def said(case: Case) -> dict[str, Any]:
    """The record, in which a null content that no tool calls stand for is an empty one."""
    silent = [m.get("content", "") is None and not m.get("tool_calls") for m in case.record["messages"]]
    messages = zip(case.record["messages"], silent, strict=True)
    return case.record | {"messages": [message | ({"content": ""} if empty else {}) for message, empty in messages]}


@cache
def reader(family: Family, choice: Choice) -> Reader:
    """Made once, because to compile a template takes most of a test's time."""
    named = {"bos_token": family.bos or "", "eos_token": family.eos}
    template = ChatTemplate(family.template, named, family.arguments)
    chosen = TargetChoice(choice.targets, choice.reasoning, choice.tool_calls)
    return Reader(template, Markers.of(template, family.special), chosen)


def show(family: Family, case: Case, choice: Choice) -> Shown | TemplateRefusal:
    tools = "tools" if "tools" in case.record else None
    conversation = LAYOUTS.find("messages").read(case.record, "messages", tools, "r")
    try:
        return reader(family, choice).show(conversation)
    except TemplateRefusal as error:
        return error

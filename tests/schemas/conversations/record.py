"""Short forms of messages, calls and tools, as records hold them."""

from dataclasses import dataclass
from typing import Any

Message = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A conversation of the fifty."""

    kind: str
    name: str
    record: dict[str, Any]
    """`messages`, and `tools` if it has some."""


def case(kind: str, name: str, *messages: Message, tools: list[dict[str, Any]] | None = None) -> Case:
    record: dict[str, Any] = {"messages": list(messages)}
    return Case(kind, name, record | ({"tools": tools} if tools else {}))


def system(content: str) -> Message:
    return {"role": "system", "content": content}


def user(content: str) -> Message:
    return {"role": "user", "content": content}


def assistant(content: str | None, *calls: dict[str, Any], **more: str) -> Message:
    return {"role": "assistant", "content": content, **more} | ({"tool_calls": list(calls)} if calls else {})


def call(name: str, arguments: dict[str, Any] | str, identity: str | None = None) -> dict[str, Any]:
    function = {"type": "function", "function": {"name": name, "arguments": arguments}}
    return function if identity is None else {"id": identity, **function}


def result(content: str, identity: str | None = None, **more: str) -> Message:
    return {"role": "tool", "content": content, **more} | ({} if identity is None else {"tool_call_id": identity})


def tool(name: str, description: str, **parameters: str) -> dict[str, Any]:
    """A definition whose parameters are all required, by their types."""
    properties = {key: {"type": kind} for key, kind in parameters.items()}
    schema = {"type": "object", "properties": properties, "required": list(parameters)}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}

"""What a conversation is, whatever the layout of its record and whatever template it is rendered with."""

import copy
import hashlib
from dataclasses import dataclass
from typing import Any, Literal

from schemas.strict import canonical_json

Role = Literal["system", "developer", "user", "assistant", "tool"]
ReasoningKey = Literal["reasoning_content", "reasoning", "thinking"]
ID_DIGITS = 32  # hexadecimal, 128 bits of a SHA-256


@dataclass(frozen=True)
class ToolCall:
    """A call of a tool by an assistant."""

    name: str
    arguments: dict[str, Any] | str
    """As the record gives them, an object or JSON as a string: templates write the two differently."""
    id: str | None = None

    def for_template(self) -> dict[str, Any]:
        """The call in OpenAI's shape, which every template with tool calls reads."""
        function = {"name": self.name, "arguments": copy.deepcopy(self.arguments)}
        identity = {} if self.id is None else {"id": self.id}
        return {**identity, "type": "function", "function": function}


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str = ""
    reasoning: str = ""
    """What an assistant thought before it spoke, if the record keeps that apart from the content."""
    tool_calls: tuple[ToolCall, ...] = ()
    name: str | None = None
    tool_call_id: str | None = None
    reasoning_key: ReasoningKey | None = None
    """The key of the record that holds the reasoning, even if it is empty; None if it has none."""
    without_content: bool = False
    """Returns whether the content is null rather than an empty string."""
    learnt: bool = True
    """False for an assistant's message that is not to be learnt."""

    def for_template(self) -> dict[str, Any]:
        """A new dict with the keys that a chat template looks at, in one order; what the record lacks is absent.

        As transformers (5.24) has it: null is as good as absent, also as the content, and reasoning has every name that
        templates know.
        """
        found: dict[str, Any] = {"role": self.role} | ({} if self.without_content else {"content": self.content})
        if self.reasoning_key is not None:
            found |= dict.fromkeys(("thinking", self.reasoning_key, "reasoning_content"), self.reasoning)
        if self.tool_calls:
            found["tool_calls"] = [call.for_template() for call in self.tool_calls]
        named = {"name": self.name, "tool_call_id": self.tool_call_id}
        return found | {key: value for key, value in named.items() if value is not None}


@dataclass(frozen=True)
class Conversation:
    """Messages in their order, and the tools that the assistant was offered, each a JSON object."""

    messages: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...] = ()


def conversation_id(conversation: Conversation) -> str:
    """32 hexadecimal digits that follow from the content alone: equal from every layout, file format and template."""
    unlearnt = [number for number, message in enumerate(conversation.messages) if not message.learnt]
    content = {
        "messages": [message.for_template() for message in conversation.messages],
        "tools": list(conversation.tools),
        **({"unlearnt": unlearnt} if unlearnt else {}),
    }
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()[:ID_DIGITS]

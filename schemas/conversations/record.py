"""A message as records of the layout `messages` hold it, which `stillroom schema conversation` prints.

Null says nothing: a key whose value is null, or of an unknown key an empty list, object or string, counts as absent.
So a table, which fills the keys that a message lacks with null, gives the same conversation as JSON.
"""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from schemas.conversations.conversation import Message, ReasoningKey, Role, ToolCall
from schemas.errors import CorpusError
from schemas.shown import listed, quoted
from schemas.strict import Strict
from schemas.texts.fields import kind_of

REASONING_KEYS: tuple[ReasoningKey, ...] = ("reasoning_content", "reasoning", "thinking")
# About a message and not of it: what data sets of the Hub note beside their messages.
IGNORED = (
    "country", "hashed_ip", "header", "id", "index", "language", "model", "num_tokens", "redacted", "score", "state",
    "timestamp", "token_count", "tokens", "toxic", "turn_identifier",
)  # fmt: skip

_WANTED = {"string_type": "a string", "model_type": "an object", "list_type": "a list"}

Text = Annotated[str, Field(strict=True)]


def _is_nothing(value: Any) -> bool:
    return value is None or (isinstance(value, (list, dict, str)) and not value)


def _joined(value: Any) -> Any:
    """A content as one string: texts that are parts of it stand behind one another, with nothing between them."""
    if value is None or isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise ValueError(f"is {kind_of(value)}, not a string")
    return "".join(map(_text_of_part, value))


def _text_of_part(part: Any) -> str:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind is None:
        raise ValueError(f"has {kind_of(part)} in its list, not an object with the type 'text'")
    if kind != "text":
        raise ValueError(f"has a part of the type {quoted(kind)}, and only text can be read; leave such records out")
    more = sorted(key for key, value in part.items() if key not in ("type", "text") and not _is_nothing(value))
    if more:
        raise ValueError(f"has a part of the type 'text' with {listed(more)}, which cannot be read")
    if not isinstance(part.get("text"), str):
        raise ValueError(f"has a part whose 'text' is {kind_of(part.get('text'))}, not a string")
    return str(part["text"])


def _object_or_text(value: Any) -> Any:
    if value is None or isinstance(value, (dict, str)):
        return value
    raise ValueError(f"is {kind_of(value)}, neither an object nor a string")


def _number(value: Any) -> Any:
    if value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)):
        return value
    raise ValueError(f"is {kind_of(value)}, not a number")


def _describe(schema: dict[str, Any], model: type[Any]) -> None:
    schema["properties"] |= {key: {"description": "Ignored."} for key in model.ignored}
    schema["additionalProperties"] = {"enum": [None, "", [], {}]}


class _Record(Strict):
    model_config = ConfigDict(json_schema_extra=_describe)

    ignored: ClassVar[tuple[str, ...]] = ()

    @model_validator(mode="before")
    @classmethod
    def _without_nothing(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        known = cls.model_fields.keys()
        said = {key: value for key, value in given.items() if value is not None}
        unread = {key for key, value in said.items() if key in cls.ignored or _is_nothing(value)} - known
        return {key: value for key, value in said.items() if key not in unread}


class TextPart(_Record):
    """A part of a content. Images, sound and files cannot be read."""

    type: Literal["text"]
    text: Text


Content = Annotated[Text | list[TextPart] | None, BeforeValidator(_joined)]
Arguments = Annotated[dict[str, Any] | Text | None, BeforeValidator(_object_or_text)]


class FunctionRecord(_Record):
    """What is called."""

    name: Text
    arguments: Arguments = None
    """An object, or JSON as a string; a template is given what the record has."""


class ToolCallRecord(_Record):
    """A call of a tool: `function`, or its `name` and `arguments` alone."""

    ignored = ("index",)

    id: Text | None = None
    type: Literal["function"] | None = None
    function: FunctionRecord | None = None
    name: Text | None = None
    arguments: Arguments = None

    @model_validator(mode="after")
    def _one_function(self) -> "ToolCallRecord":
        if (self.function is None) == (self.name is None):
            raise ValueError("has " + ("no 'function'" if self.name is None else "both 'function' and 'name'"))
        if self.function is not None and self.arguments is not None:
            raise ValueError("has 'arguments' beside its 'function'")
        return self

    def read(self) -> ToolCall:
        """The call; one without arguments has an empty object of them."""
        name, arguments = (self.name, self.arguments)
        if self.function is not None:
            name, arguments = self.function.name, self.function.arguments
        return ToolCall(str(name), {} if arguments is None else arguments, self.id)


class MessageRecord(_Record):
    """A message. What is said nowhere here is refused, unless it is null or empty."""

    ignored = IGNORED

    role: Role
    content: Content = None
    """A string, or a list of texts that are joined."""
    reasoning_content: Text | None = None
    """What an assistant thought before it spoke."""
    reasoning: Text | None = None
    """The same under another name; a message has one of them."""
    thinking: Text | None = None
    """The same under another name; a message has one of them."""
    tool_calls: list[ToolCallRecord] | None = None
    """Of an assistant."""
    name: Text | None = None
    """Of who speaks, or of the tool that answers."""
    tool_call_id: Text | None = None
    """Of the call that a tool answers."""
    weight: Annotated[float | None, BeforeValidator(_number)] = None
    """0 keeps an assistant's message from being learnt, 1 does not. Of other messages, ignored."""

    @model_validator(mode="after")
    def _fits_its_role(self) -> "MessageRecord":
        thoughts = [key for key in REASONING_KEYS if getattr(self, key)]
        if len(thoughts) > 1:
            raise ValueError(f"has both {' and '.join(map(quoted, thoughts))}; keep one")
        if self.role == "assistant":
            if self.weight not in (None, 0, 1):
                raise ValueError(f"has the weight {self.weight:g}; an answer is learnt (1) or not (0)")
            return self
        for key in (*thoughts, "tool_calls"):
            if getattr(self, key):
                raise ValueError(f"has {quoted(key)}, which only an assistant's has; its role is {quoted(self.role)}")
        return self

    def read(self) -> Message:
        """The message. Its content is null only where tool calls stand in its place."""
        given = [key for key in REASONING_KEYS if getattr(self, key) is not None and self.role == "assistant"]
        reasoning_key = next((key for key in given if getattr(self, key)), next(iter(given), None))
        calls = tuple(call.read() for call in self.tool_calls or ())
        return Message(
            self.role,
            str(self.content or ""),
            getattr(self, reasoning_key) if reasoning_key else "",
            calls,
            self.name or None,
            self.tool_call_id or None,
            reasoning_key,
            self.content is None and bool(calls),
            self.role != "assistant" or self.weight != 0,
        )


class ConversationRecord(Strict):
    """What a record holds of a conversation in the layout `messages`. Its other fields are not read."""

    messages: Annotated[list[MessageRecord], Field(min_length=1)] | Text
    """In their order: one at least is an assistant's, and the first is not. A list, or JSON as a string."""
    tools: list[dict[str, Any]] | Text | None = None
    """Definitions of the tools that the assistant was offered. A list, or JSON as a string."""


def read_message(value: Any, place: str) -> Message:
    """The message that `value` holds. Raises CorpusError that begins with `place`, the message's number included."""
    try:
        return MessageRecord.model_validate(value).read()
    except ValidationError as error:
        raise CorpusError(_said(error.errors()[0], place)) from error


def _said(problem: ErrorDetails, place: str) -> str:
    path, kind, given = list(problem["loc"]), problem["type"], problem["input"]
    if len(path) > 1 and path[0] == "tool_calls":
        place, path = f"{place}: tool call {int(path[1]) + 1}", path[2:]
    key = quoted(".".join(map(str, path)))
    if kind == "missing":
        return f"{place} has no {key}; it has {listed(given)}"
    if kind == "extra_forbidden":
        return f"{place} has {key}, {kind_of(given)}, which cannot be read; take it out of the records"
    if path:
        place = f"{place}: {key}"
    if kind == "value_error":
        return f"{place} {problem['ctx']['error']}"
    if kind == "literal_error":
        return f"{place} is {quoted(given)}, not {problem['ctx']['expected']}"
    return f"{place} is {kind_of(given)}, not {_WANTED[kind]}"

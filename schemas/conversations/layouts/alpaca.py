"""`alpaca`: one question and one answer, in the fields `instruction`, `input` and `output`."""

from schemas.conversations.conversation import Conversation, Message
from schemas.conversations.fields import conversation_of, tools_of
from schemas.conversations.layout import Layout
from schemas.texts.fields import text_of
from schemas.texts.format import Record

INSTRUCTION, INPUT, OUTPUT = "instruction", "input", "output"


class Alpaca(Layout):
    """The user says the instruction and, unless it is blank, the input after an empty line."""

    name, field, optional = "alpaca", None, (INPUT,)

    def fields(self, field: str, tools: str | None) -> list[str]:
        """See `Layout.fields`; `field` is not asked for."""
        return [INSTRUCTION, INPUT, OUTPUT, *self.nested(field, tools)]

    def nested(self, field: str, tools: str | None) -> list[str]:
        """See `Layout.nested`."""
        return [] if tools is None else [tools]

    def read(self, record: Record, field: str, tools: str | None, place: str) -> Conversation:
        """See `Layout.read`; `field` is not asked for."""
        more = "" if record.get(INPUT) is None else text_of(record, INPUT, place)
        question = text_of(record, INSTRUCTION, place) + (f"\n\n{more}" if more.strip() else "")
        messages = [Message("user", question), Message("assistant", text_of(record, OUTPUT, place))]
        return conversation_of(messages, tools_of(record, tools, place), place)


LAYOUT = Alpaca()

"""`messages`: objects with a role and a content, as chat interfaces take them."""

from schemas.conversations.conversation import Conversation
from schemas.conversations.fields import conversation_of, tools_of, turns_of
from schemas.conversations.layout import Layout
from schemas.conversations.record import read_message
from schemas.shown import quoted
from schemas.texts.format import Record


class Messages(Layout):
    """What a message may hold is said in `schemas.conversations.record`."""

    name, field, optional = "messages", "messages", ()

    def read(self, record: Record, field: str, tools: str | None, place: str) -> Conversation:
        """See `Layout.read`."""
        where = f"{place}: field {quoted(field)}"
        turns = turns_of(record, field, place)
        messages = [read_message(turn, f"{where}: message {number}") for number, turn in enumerate(turns, 1)]
        return conversation_of(messages, tools_of(record, tools, place), where)


LAYOUT = Messages()

"""A layout as one object: how records hold a conversation, and how it is read from one.

A new layout is a module of `schemas.conversations.layouts` with a `LAYOUT`, or an entry point of the group
`stillroom.conversation_layouts`.
"""

from abc import ABC, abstractmethod
from functools import partial

from schemas.conversations.conversation import Conversation
from schemas.form import require_instance
from schemas.registry import Registry
from schemas.texts.format import Record


class Layout(ABC):
    """How one kind of record holds a conversation."""

    name: str
    """The name by which a config asks for it."""
    field: str | None
    """The field that usually holds the list of messages; None if a conversation stands in several fields."""
    optional: tuple[str, ...]
    """Other fields that are read, and that a record, or a whole table, need not have."""

    def fields(self, field: str, tools: str | None) -> list[str]:
        """Every field that is read of a record, of which `optional` may be missing."""
        return list(dict.fromkeys([field, *self.optional, *self.nested(field, tools)]))

    def nested(self, field: str, tools: str | None) -> list[str]:
        """Those of the fields that may hold lists and objects."""
        return [field] if tools is None else [field, tools]

    @abstractmethod
    def read(self, record: Record, field: str, tools: str | None, place: str) -> Conversation:
        """The conversation of a record: `field` has the messages, `tools` the definitions of tools, if any.

        Raises CorpusError that begins with `place` and names the field; ShapeRefusal where nothing of it can be learnt.
        """


LAYOUTS: Registry[Layout] = Registry(
    "layout of conversations",
    "schemas.conversations.layouts",
    "LAYOUT",
    "stillroom.conversation_layouts",
    partial(require_instance, base=Layout),
)

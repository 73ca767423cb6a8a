"""The section `corpus.conversations`: how records become conversations, and what of these is learnt."""

import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from schemas.bounds import FieldName, Name
from schemas.strict import Strict

MOST_SYSTEM = 1_000_000  # characters


class ConversationsConfig(Strict):
    """Conversations are rendered by the teacher's chat template; what assistants say in them is learnt."""

    layout: Name = "messages"
    """How a record holds a conversation: messages (OpenAI's), sharegpt, alpaca, or the name of an installed layout."""
    field: FieldName | None = None
    """Field that holds the conversation; left out, the layout's own: messages, conversations."""
    tools: FieldName | None = None
    """Field that holds the tools that the assistant was offered."""
    system: Annotated[str, Field(max_length=MOST_SYSTEM)] | None = None
    """A system message for conversations that have none."""
    targets: Literal["all", "last"] = "all"
    """Which of the assistant's turns are learnt."""
    reasoning: bool = True
    """Learn the reasoning of these turns, where the template shows it."""
    tool_calls: bool = True
    """Learn the tool calls of these turns. Results of tools never are."""
    date: str | None = None
    """What a template that shows today's date shows instead, as YYYY-MM-DD. Left out, such a template is refused."""
    refused: Literal["error", "skip"] = "error"
    """A conversation that begins with an assistant or has none, that the template refuses, or of which a target cannot
    be located: stop, or leave it out and count it."""

    @field_validator("date", mode="before")
    @classmethod
    def _as_yaml_has_it(cls, date: Any) -> Any:
        is_date = isinstance(date, datetime.date) and not isinstance(date, datetime.datetime)
        return date.isoformat() if is_date else date

    @field_validator("date")
    @classmethod
    def _is_a_date(cls, date: str | None) -> str | None:
        if date is not None and datetime.date.fromisoformat(date).isoformat() != date:
            raise ValueError("write it as YYYY-MM-DD")
        return date

    @property
    def today(self) -> datetime.date | None:
        """The date that a template is shown."""
        return None if self.date is None else datetime.date.fromisoformat(self.date)

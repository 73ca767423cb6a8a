"""What cache.json says of conversations: by which template they were rendered, and what of them is learnt."""

import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from schemas.strict import Strict


class ConversationsRecord(Strict):
    """Everything that decides a conversation's text and targets. Part of the identity."""

    template: Annotated[str, Field(description="The chat template, in Jinja.")]
    arguments: Annotated[dict[str, Any], Field(description="What it is given beside the messages.")]
    special_tokens: Annotated[dict[str, str], Field(description="The teacher's special tokens, by their names in it.")]
    layout: Annotated[str, Field(description="How records held conversations.")]
    field: str | None = None
    tools: str | None = None
    system: Annotated[str | None, Field(description="The system message of conversations that had none.")] = None
    targets: Literal["all", "last"]
    reasoning: bool
    tool_calls: bool
    date: str | None = None

    @property
    def today(self) -> datetime.date | None:
        """What a template that asks for today's date is told."""
        return None if self.date is None else datetime.date.fromisoformat(self.date)

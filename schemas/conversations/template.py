"""A chat template, compiled once and rendered in a sandbox: the same conversation gives the same text, and where every
character of it comes from.

It renders as transformers does, with one exception: a template that asks for today's date is given the one in the
config, or refused. Costs about 0.2 ms per conversation of four turns.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from typing import Any

from jinja2 import Template, TemplateError

from schemas.conversations.sandbox import Sandbox
from schemas.conversations.tracked import Run, runs_of
from schemas.errors import StillroomError
from schemas.texts.surrogates import describe_surrogate


class TemplateRefusal(StillroomError):
    """A conversation that a chat template refuses, in the template's words or Jinja's. Whoever reads it adds where."""


@dataclass(frozen=True)
class Rendered:
    """A conversation as its template shows it."""

    text: str
    runs: tuple[Run, ...]  # what of it comes from the conversation


@dataclass(frozen=True)
class ChatTemplate:
    """A template in Jinja, and what it is rendered with beside the messages."""

    source: str
    special_tokens: Mapping[str, str] = field(default_factory=dict)  # bos_token and so on, as the tokenizer names them
    arguments: Mapping[str, Any] = field(default_factory=dict)
    today: date | None = None

    def render(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Any] = (), add_generation_prompt: bool = False
    ) -> Rendered:
        """Messages whose strings may be `Tracked`. Raises TemplateRefusal."""
        sandbox, template = self._compiled
        sandbox.work = 0
        try:
            text = template.render(
                messages=list(messages),
                tools=list(tools) or None,
                documents=None,
                add_generation_prompt=add_generation_prompt,
                **{**self.special_tokens, **self.arguments},
            )
        # What a template may raise is whatever its expressions do to what they are given.
        except Exception as error:
            raise TemplateRefusal(f"the chat template refuses it: {_said(error)}") from error
        if describe_surrogate(text) is not None:
            raise TemplateRefusal("the chat template writes an unpaired surrogate, half of a character")
        return Rendered(str.__str__(text), runs_of(text))

    @cached_property
    def _compiled(self) -> tuple[Sandbox, Template]:
        """Raises TemplateRefusal: it is not Jinja."""
        sandbox = Sandbox(self.today)
        try:
            return sandbox, sandbox.from_string(self.source)
        # Jinja's own error, or Python's, of a template that is nested too deeply or breaks out of no loop.
        except (TemplateError, SyntaxError, RecursionError, MemoryError) as error:
            raise TemplateRefusal(f"the chat template is not one: {_said(error)}") from error

    def __getstate__(self) -> dict[str, Any]:
        """Without what is compiled, which no other process can read."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def _said(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__

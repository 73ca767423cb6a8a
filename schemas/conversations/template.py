"""A chat template, compiled once and rendered in a sandbox: the same conversation gives the same text, and where every
character of it comes from.

It renders as transformers does (trim_blocks, lstrip_blocks, loop controls, `generation` blocks, its own `tojson`), with
one exception: a template that asks for today's date is given the one in the config, or refused. Costs about 0.2 ms per
conversation of four turns.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property, partial
from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from schemas.conversations.tracked import Run, dump_json, join, runs_of
from schemas.errors import StillroomError

LONGEST = 64 << 20  # characters that a conversation may be rendered to


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
        try:
            text = self._compiled.render(
                messages=list(messages),
                tools=list(tools) or None,
                documents=None,
                add_generation_prompt=add_generation_prompt,
                **{**self.special_tokens, **self.arguments},
            )
        except TemplateRefusal:
            raise
        # What a template may raise is whatever its expressions do to what they are given.
        except Exception as error:
            raise TemplateRefusal(f"the chat template refuses it: {_said(error)}") from error
        return Rendered(str.__str__(text), runs_of(text))

    @cached_property
    def _compiled(self) -> Any:
        """Raises TemplateRefusal: it is not Jinja."""
        environment = _Environment(self.today)
        try:
            return environment.from_string(self.source)
        except TemplateError as error:
            raise TemplateRefusal(f"the chat template is not one: {_said(error)}") from error

    def __getstate__(self) -> dict[str, Any]:
        """Without what is compiled, which no other process can read."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


class _Generation(Extension):
    """`{% generation %}` blocks show what is in them: where answers stand is known without them."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body).set_lineno(line)


class _Generator(CodeGenerator):
    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:
        self.write("environment.concat((")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")


class _Environment(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, whose joins keep track of where characters come from."""

    code_generator_class = _Generator
    concat = staticmethod(join)

    def __init__(self, today: date | None):
        extensions = [_Generation, "jinja2.ext.loopcontrols"]
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=extensions)
        self.filters["tojson"] = _to_json
        self.filters["join"] = _join
        self.globals["raise_exception"] = _refuse
        self.globals["strftime_now"] = partial(_format_date, today)

    def call(self, context: Any, called: Any, *args: Any, **kwargs: Any) -> Any:
        """A call in a template; `", ".join(...)` of a literal among them, which would forget."""
        if getattr(called, "__name__", "") == "join" and isinstance(getattr(called, "__self__", None), str):
            return join(args[0], called.__self__)
        return super().call(context, called, *args, **kwargs)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return dump_json(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _join(values: Any, between: str = "", attribute: str | None = None) -> str:
    return join((value if attribute is None else value[attribute] for value in values), between)


def _refuse(message: str) -> None:
    raise TemplateRefusal(f"the chat template refuses it: {message}")


def _format_date(today: date | None, pattern: str) -> str:
    if today is None:
        raise TemplateRefusal(
            "the chat template asks for today's date, and what is made tomorrow would differ: give one in "
            "`conversations.date`"
        )
    return today.strftime(pattern)


def _said(error: Exception) -> str:
    return json.dumps(str(error), ensure_ascii=False)[1:-1] or type(error).__name__

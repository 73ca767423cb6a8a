"""Where chat templates run: Jinja's sandbox, with the extensions that transformers has, and joins that know where
characters come from.

A template is foreign code. It reaches no internals of Python, changes nothing that it is given, and is told neither the
time nor anything by chance, so the same conversation gives the same text tomorrow. It is stopped after `MOST_WORK`
steps, some ten seconds, and at a text longer than `LONGEST`. Not bounded is a single expression: a filter over a long
list, or a width in a format.
"""

from collections.abc import Iterable, Iterator
from datetime import date
from functools import partial
from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.runtime import LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from schemas.conversations.tracked import Tracked, dump_json, join

LONGEST = 64 << 20  # characters that a text may have
MOST_WORK = 5_000_000  # steps: passes of loops, and sums; a call is 20
MOST_BITS = 1 << 12  # of a whole number
_CALL = 20  # steps
_OF_JINJA = ("_loop_vars", "_block_vars")  # that it hands to whatever is called in a loop or a block
_CHARACTERS = 500  # that are joined in one step


class Sandbox(ImmutableSandboxedEnvironment):
    """Renders as transformers does (trim_blocks, lstrip_blocks, loop controls, `generation` blocks, its `tojson`).

    What it refuses raises Jinja's TemplateError.
    """

    intercepted_binops = frozenset({"+", "*", "**"})
    work = 0
    """Steps so far. Whoever renders begins at 0."""

    def __init__(self, today: date | None):
        """`today` is what a template is told that asks for the date."""
        extensions = [_Generation, "jinja2.ext.loopcontrols"]
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=extensions)
        self.code_generator_class = _Generator
        self.filters |= {"tojson": _to_json, "join": self._join, "random": _refuse_chance}
        self.globals |= {
            "raise_exception": _refuse,
            "strftime_now": partial(_format_date, today),
            "dict": _Dict(),
            "namespace": _Namespace,
            "lipsum": _refuse_chance,
        }

    def concat(self, parts: Iterable[Any]) -> str:
        """All parts as one text."""
        return self._joined("", map(_text, parts))

    def counted(self, values: Iterable[Any]) -> Iterator[Any]:
        """What a loop passes through."""
        for value in values:
            self._spend(1)
            yield value

    def call(self, context: Any, called: Any, /, *args: Any, **kwargs: Any) -> Any:
        """A call in a template; `", ".join(...)` of a literal among them, which would forget."""
        self._spend(_CALL)
        if getattr(called, "__name__", "") == "join" and isinstance(getattr(called, "__self__", None), str):
            options = {name: value for name, value in kwargs.items() if name not in _OF_JINJA}
            return self._joined(called.__self__, *args, **options)
        if isinstance(called, LoopContext):  # a loop within itself
            args = (self.counted(args[0]), *args[1:])
        return super().call(context, called, *args, **kwargs)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """A sum, a product or a power, if it is not too large."""
        self._spend(1)
        if _size(operator, left, right) > LONGEST:
            raise TemplateError(f"{operator!r} would give more than {LONGEST:,} characters or items")
        if _bits(operator, left, right) > MOST_BITS:
            raise TemplateError(f"{operator!r} would give a number of more than {MOST_BITS:,} bits")
        value = super().call_binop(context, operator, left, right)
        self._spend(len(value) // _CHARACTERS if isinstance(value, (str, list, tuple)) else 0)
        return value

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Of a text, what every string has: it is not told apart from a plain one."""
        if isinstance(obj, Tracked) and not hasattr(str, attr):
            return False
        return super().is_safe_attribute(obj, attr, value)

    def _join(self, values: Iterable[Any], between: Any = "", attribute: str | None = None) -> str:
        found = values if attribute is None else (self.getitem(value, attribute) for value in values)
        return self._joined(_text(between), map(_text, found))

    def _joined(self, between: str, parts: Iterable[str], /) -> str:
        texts, length = list[str](), 0
        for part in parts:
            texts.append(part)
            length += len(part) + len(between)
            if length > LONGEST:
                raise TemplateError(f"it shows more than {LONGEST:,} characters")
        self._spend(length // _CHARACTERS)
        return join(texts, between)

    def _spend(self, steps: int) -> None:
        self.work += steps
        if self.work > MOST_WORK:
            raise TemplateError(f"it takes more than {MOST_WORK:,} steps")


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

    def visit_For(self, node: nodes.For, frame: Frame) -> None:
        counted = nodes.EnvironmentAttribute("counted", lineno=node.lineno)
        node.iter = nodes.Call(counted, [node.iter], [], None, None, lineno=node.lineno)
        super().visit_For(node, frame)


class _Dict:
    """`dict` as transformers has it: the class itself has methods that change dicts."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args)


class _Namespace(Namespace):
    """`namespace` as transformers has it, without names that Python looks at."""

    def __init__(*args: Any, **kwargs: Any) -> None:  # so that `namespace(self=...)` works
        attributes = dict(*args[1:], **kwargs)
        for name in attributes:
            _require_public(name)
        Namespace.__init__(args[0], attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        _require_public(name)
        super().__setitem__(name, value)


def _require_public(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace cannot have {name!r}")


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return dump_json(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else str(value)


def _size(operator: str, left: Any, right: Any) -> int:
    """How many characters or items a sum or a product has."""
    sizes = [len(value) for value in (left, right) if isinstance(value, (str, list, tuple))]
    if operator == "+":
        return sum(sizes)
    times = [value for value in (left, right) if isinstance(value, int)]
    return sizes[0] * times[0] if operator == "*" and sizes and times else 0


def _bits(operator: str, left: Any, right: Any) -> int:
    """How many bits a product or a power of whole numbers has, at most."""
    if operator == "+" or not (isinstance(left, int) and isinstance(right, int)):
        return 0
    return left.bit_length() + right.bit_length() if operator == "*" else left.bit_length() * max(right, 0)


def _refuse(message: str) -> None:
    raise TemplateError(message)


def _refuse_chance(*_: Any, **__: Any) -> None:
    raise TemplateError("it asks for something by chance, and what is made tomorrow would differ")


def _format_date(today: date | None, pattern: str) -> str:
    if today is None:
        raise TemplateError(
            "it asks for today's date, and what is made tomorrow would differ; give one in `conversations.date`"
        )
    return today.strftime(pattern)

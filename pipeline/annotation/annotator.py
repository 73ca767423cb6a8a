"""Who marks words and phrases in a text: annotators behind one interface, each one object, found by a registry.

A new one is a module of `pipeline.annotation.annotators` with an `ANNOTATOR`, or an entry point of the group
`stillroom.annotators`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from pipeline.corpus.sample import Spans
from schemas.errors import AnnotatorError
from schemas.form import require_instance, require_type
from schemas.registry import Registry
from schemas.shown import quoted


class Annotator(Protocol):
    """Finds character spans. A text's spans depend on that text and on `version`, and on nothing else."""

    @property
    def version(self) -> str:
        """Names everything that spans depend on; part of the cache's fingerprint. Holds no path of the machine."""
        ...

    def annotate(self, texts: Sequence[str]) -> list[Spans]:
        """Words, noun phrases and verb phrases of each text."""
        ...


@dataclass(frozen=True)
class AnnotatorKind:
    """An annotator as a config names it: NAME, or NAME:ARGUMENT."""

    name: str
    about: str  # in a message that lists them
    load: Callable[[str], Annotator]  # given the argument; may raise AnnotatorError
    argument: str = ""  # what the argument is; empty for an annotator that takes none

    @property
    def usage(self) -> str:
        """How a config names it, with what the argument is."""
        return self.spec(self.argument)

    def spec(self, argument: str) -> str:
        """How a config names it with this argument; empty for none."""
        return f"{self.name}:{argument}" if argument else self.name


ANNOTATORS: Registry[AnnotatorKind] = Registry(
    "annotator",
    "pipeline.annotation.annotators",
    "ANNOTATOR",
    "stillroom.annotators",
    partial(require_instance, base=AnnotatorKind),
)


def load_annotator(spec: str) -> Annotator:
    """The annotator that a config names.

    Raises AnnotatorError if it is unknown or not installed, or lacks what it needs; ConfigError if it is of another
    package and fails.
    """
    known, argument = parse_annotator(spec)
    with ANNOTATORS.using(known.name) as kind:
        annotator = kind.load(argument)
        require_type(annotator.version, str, "its `version`")
    return annotator


def parse_annotator(spec: str) -> tuple[AnnotatorKind, str]:
    """The kind and the argument that a config's NAME or NAME:ARGUMENT stands for. Raises AnnotatorError if unknown."""
    name, colon, argument = spec.partition(":")
    kind = ANNOTATORS.get(name)
    if kind is None or bool(argument) != bool(kind.argument) or bool(colon) != bool(kind.argument):
        known = ", ".join(f"'{kind.usage}' ({kind.about})" for kind in ANNOTATORS.values())
        raise AnnotatorError(f"Unknown span annotator {quoted(spec)}. Set `spans.annotator` to one of {known}.")
    return kind, argument

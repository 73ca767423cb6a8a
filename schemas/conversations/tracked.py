"""Text that knows where its characters come from, through whatever a chat template does to it.

A template trims, splits, joins and drops what it is given. To look for a content in the text afterwards goes wrong
where it is short, repeated or like markup; so every character carries its origin along. What is not followed here
(upper case, formatting) gives a plain string: its origin is then unknown, never wrong.
"""

import json
from collections.abc import Iterable, Iterator
from operator import index
from typing import Any, NamedTuple, SupportsIndex


class Origin(NamedTuple):
    """Which part of a conversation a character is of."""

    message: int
    field: str  # content, reasoning or tool_calls


class Run(NamedTuple):
    """Characters [start, end) of a text that are of one origin, from `place` on in it; None if they are rewritten."""

    start: int
    end: int
    origin: Origin
    place: int | None


class Tracked(str):
    """A string with its runs, ascending and disjoint. Characters of no run were written by the template."""

    runs: tuple[Run, ...]

    def __new__(cls, text: str, runs: Iterable[Run] = ()) -> "Tracked":
        """`text`, of which `runs` say where it comes from."""
        made = super().__new__(cls, text)
        made.runs = tuple(runs)
        return made

    @classmethod
    def of(cls, text: str, origin: Origin, place: int | None = 0) -> "Tracked":
        """A text that is all of one origin."""
        return cls(text, [Run(0, len(text), origin, place)] if text else [])

    def __getnewargs__(self) -> tuple[str, tuple[Run, ...]]:  # type: ignore[override]  # str's have no runs
        """For pickle and copy."""
        return str.__str__(self), self.runs

    def __str__(self) -> str:
        return self

    def __format__(self, spec: str) -> str:
        return super().__format__(spec) if spec else self

    def __add__(self, other: str) -> str:
        return join([self, other]) if isinstance(other, str) else NotImplemented

    def __radd__(self, other: str) -> str:
        return join([other, self]) if isinstance(other, str) else NotImplemented

    def __getitem__(self, place: SupportsIndex | slice) -> str:
        start, stop, step = (place if isinstance(place, slice) else slice(*_one(place, len(self)))).indices(len(self))
        return self._part(start, max(start, stop)) if step == 1 else super().__getitem__(place)

    def __iter__(self) -> Iterator[str]:
        return (self._part(place, place + 1) for place in range(len(self)))

    def strip(self, characters: str | None = None, /) -> str:
        """As str's."""
        return _tracked(self.lstrip(characters)).rstrip(characters)

    def lstrip(self, characters: str | None = None, /) -> str:
        """As str's."""
        return self._part(len(self) - len(super().lstrip(characters)), len(self))

    def rstrip(self, characters: str | None = None, /) -> str:
        """As str's."""
        return self._part(0, len(super().rstrip(characters)))

    def removeprefix(self, prefix: str, /) -> str:
        """As str's."""
        return self._part(len(prefix), len(self)) if self.startswith(prefix) else self

    def removesuffix(self, suffix: str, /) -> str:
        """As str's."""
        return self._part(0, len(self) - len(suffix)) if suffix and self.endswith(suffix) else self

    def split(self, separator: str | None = None, maxsplit: SupportsIndex = -1) -> list[str]:
        """As str's."""
        return self._found(super().split(separator, maxsplit), separator)

    def rsplit(self, separator: str | None = None, maxsplit: SupportsIndex = -1) -> list[str]:
        """As str's."""
        return self._found(super().rsplit(separator, maxsplit), separator)

    def splitlines(self, keepends: bool = False) -> list[str]:
        """As str's."""
        return self._found(super().splitlines(keepends))

    def partition(self, separator: str, /) -> tuple[str, str, str]:
        """As str's."""
        first, found, _ = super().partition(separator)
        return self._three(len(first), len(first) + len(found))

    def rpartition(self, separator: str, /) -> tuple[str, str, str]:
        """As str's."""
        first, found, _ = super().rpartition(separator)
        return self._three(len(first), len(first) + len(found))

    def replace(self, old: str, new: str, count: SupportsIndex = -1, /) -> str:
        """As str's."""
        plain = super().replace(old, new, count)
        return join(self._found(super().split(old, count), old), new) if old and index(count) else plain

    def join(self, parts: Iterable[str], /) -> str:
        """As str's."""
        return join(parts, self)

    def _part(self, start: int, end: int) -> "Tracked":
        inside = (run for run in self.runs if max(run.start, start) < min(run.end, end))
        return Tracked(super().__getitem__(slice(start, end)), (_clip(run, start, end) for run in inside))

    def _three(self, start: int, end: int) -> tuple[str, str, str]:
        return self._part(0, start), self._part(start, end), self._part(end, len(self))

    def _found(self, parts: list[str], separator: str | None = None) -> list[str]:
        """Parts of this string, one after the other, as tracked ones. Between two stands `separator`, or what no part
        begins with."""
        found, place = list[str](), 0
        for part in parts:
            place = place if separator is not None else self.index(part, place)
            found.append(self._part(place, place + len(part)))
            place += len(part) + len(separator or "")
        return found


def join(parts: Iterable[str], between: str = "") -> str:
    """All parts as one string; a plain one if none is tracked. Raises TypeError, as str's does: a part is no string."""
    texts = list(parts)
    plain = str.join(str.__str__(between), texts)
    if not any(isinstance(text, Tracked) for text in (between, *texts)):
        return plain
    runs, place = list[Run](), 0
    for number, text in enumerate(texts):
        for piece in (between, text) if number else (text,):
            runs += [Run(start + place, end + place, origin, at) for start, end, origin, at in runs_of(piece)]
            place += len(piece)
    return Tracked(plain, _merged(runs))


def runs_of(text: str) -> tuple[Run, ...]:
    """The runs of a text; none of a plain one."""
    return text.runs if isinstance(text, Tracked) else ()


def dump_json(value: Any, **options: Any) -> str:
    """`value` as JSON; characters of what is tracked in it are rewritten ones of its first origin."""
    text = json.dumps(value, **options)
    origin = next((run.origin for found in _strings(value) for run in runs_of(found)), None)
    return text if origin is None else Tracked.of(text, origin, None)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from (*_strings(key), *_strings(item))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _strings(item)


def _merged(runs: list[Run]) -> list[Run]:
    """Runs that go on where the one before ends, in the text and in their origin, as one."""
    merged = list[Run]()
    for run in runs:
        if merged and _goes_on(merged[-1], run):
            start, _, origin, place = merged[-1]
            merged[-1] = Run(start, run.end, origin, place)
        else:
            merged.append(run)
    return merged


def _goes_on(before: Run, run: Run) -> bool:
    if before.end != run.start or before.origin != run.origin:
        return False
    if before.place is None or run.place is None:
        return before.place is run.place
    return before.place + before.end - before.start == run.place


def _clip(run: Run, start: int, end: int) -> Run:
    cut = max(0, start - run.start)
    place = None if run.place is None else run.place + cut
    return Run(max(run.start, start) - start, min(run.end, end) - start, run.origin, place)


def _one(place: SupportsIndex, length: int) -> tuple[int, int]:
    number = index(place)
    if not -length <= number < length:
        raise IndexError("string index out of range")
    return number % length, number % length + 1


def _tracked(text: str) -> Tracked:
    return text if isinstance(text, Tracked) else Tracked(text, ())

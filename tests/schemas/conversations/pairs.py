"""What str does, written anew over characters that each know where they come from."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from schemas.conversations.tracked import Origin, join

Pairs = list[tuple[str, tuple[Origin, int | None] | None]]
LINE_ENDS = "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"


@dataclass(frozen=True)
class Step:
    """An operation on a text and another one: as str has it, and over pairs."""

    name: str
    plain: Callable[[Any, Any], Any]
    truth: Callable[[Pairs, Pairs], Any]

    def __repr__(self) -> str:
        return self.name


def pairs_of(text: str, origin: Origin) -> Pairs:
    return [(character, (origin, place)) for place, character in enumerate(text)]


def text_of(pairs: Pairs) -> str:
    return "".join(character for character, _ in pairs)


def written(text: str) -> Pairs:
    """By the template."""
    return [(character, None) for character in text]


def stripped(pairs: Pairs, characters: str | None, left: bool = True, right: bool = True) -> Pairs:
    def goes(character: str) -> bool:
        return character.isspace() if characters is None else character in characters

    start, end = 0, len(pairs)
    while left and start < end and goes(pairs[start][0]):
        start += 1
    while right and start < end and goes(pairs[end - 1][0]):
        end -= 1
    return pairs[start:end]


def split(pairs: Pairs, separator: str, most: int) -> list[Pairs]:
    found, begin, place = list[Pairs](), 0, 0
    while place + len(separator) <= len(pairs) and (most < 0 or len(found) < most):
        if text_of(pairs[place : place + len(separator)]) == separator:
            found.append(pairs[begin:place])
            begin = place = place + len(separator)
        else:
            place += 1
    return [*found, pairs[begin:]]


def rsplit(pairs: Pairs, separator: str, most: int) -> list[Pairs]:
    return [part[::-1] for part in split(pairs[::-1], separator[::-1], most)][::-1]


def words(pairs: Pairs, most: int) -> list[Pairs]:
    found, rest = list[Pairs](), stripped(pairs, None, right=False)
    while rest:
        if len(found) == most:
            return [*found, rest]
        length = next((n for n, (character, _) in enumerate(rest) if character.isspace()), len(rest))
        found.append(rest[:length])
        rest = stripped(rest[length:], None, right=False)
    return found


def words_from_the_right(pairs: Pairs, most: int) -> list[Pairs]:
    return [part[::-1] for part in words(pairs[::-1], most)][::-1]


def lines(pairs: Pairs, keep: bool) -> list[Pairs]:
    found, begin, place = list[Pairs](), 0, 0
    while place < len(pairs):
        length = 2 if text_of(pairs[place : place + 2]) == "\r\n" else int(pairs[place][0] in LINE_ENDS)
        if length:
            found.append(pairs[begin : place + length * keep])
            begin = place + length
        place += length or 1
    return [*found, pairs[begin:]] if begin < len(pairs) else found


def partition(pairs: Pairs, separator: str, last: bool) -> list[Pairs]:
    parts = (rsplit if last else split)(pairs, separator, 1)
    if len(parts) == 1:
        return [[], [], pairs] if last else [pairs, [], []]
    begin = len(parts[0])
    return [parts[0], pairs[begin : begin + len(separator)], parts[1]]


def joined(parts: list[Pairs], between: Pairs) -> Pairs:
    return [pair for number, part in enumerate(parts) for pair in (*(between if number else []), *part)]


def steps() -> st.SearchStrategy[Step]:
    return st.one_of(_slices(), _strips(), _splits(), _joins())


def _slices() -> st.SearchStrategy[Step]:
    bound = st.none() | st.integers(-14, 14)
    cut = st.builds(slice, bound, bound)
    one = st.integers(-14, 14)
    return st.one_of(
        cut.map(lambda c: Step(f"[{c}]", lambda t, _: t[c], lambda p, _: p[c])),
        one.map(lambda n: Step(f"[{n}]", lambda t, _: t[n], lambda p, _: [p[n]])),
        st.just(Step("list", lambda t, _: list(t), lambda p, _: [[pair] for pair in p])),
        st.just(Step("str", lambda t, _: str(t), lambda p, _: p)),
    )


def _strips() -> st.SearchStrategy[Step]:
    def made(name: str, characters: str | None) -> Step:
        left, right = name != "rstrip", name != "lstrip"
        return Step(
            f"{name}({characters!r})",
            lambda t, _: getattr(t, name)(characters),
            lambda p, _: stripped(p, characters, left, right),
        )

    def without(prefix: bool, text: str) -> Step:
        def truth(pairs: Pairs, _: Pairs) -> Pairs:
            own = text_of(pairs)
            if prefix:
                return pairs[len(text) :] if own.startswith(text) else pairs
            return pairs[: len(pairs) - len(text)] if text and own.endswith(text) else pairs

        name = "removeprefix" if prefix else "removesuffix"
        return Step(f"{name}({text!r})", lambda t, _: getattr(t, name)(text), truth)

    characters = st.none() | st.text("ab, \n", max_size=2)
    return st.builds(made, st.sampled_from(["strip", "lstrip", "rstrip"]), characters) | st.builds(
        without, st.booleans(), st.text("ab", max_size=2)
    )


def _splits() -> st.SearchStrategy[Step]:
    most, separator = st.integers(-2, 3), st.text("ab,", max_size=2)

    def by(name: str, text: str | None, most: int) -> Step:
        def truth(pairs: Pairs, _: Pairs) -> list[Pairs]:
            if text is None:
                return (words if name == "split" else words_from_the_right)(pairs, most)
            return (split if name == "split" else rsplit)(pairs, text, most)

        return Step(f"{name}({text!r}, {most})", lambda t, _: getattr(t, name)(text, most), truth)

    def parted(name: str, text: str) -> Step:
        return Step(
            f"{name}({text!r})",
            lambda t, _: getattr(t, name)(text),
            lambda p, _: partition(p, text, name == "rpartition"),
        )

    def in_lines(keep: bool) -> Step:
        return Step(f"splitlines({keep})", lambda t, _: t.splitlines(keep), lambda p, _: lines(p, keep))

    return st.one_of(
        st.builds(by, st.sampled_from(["split", "rsplit"]), st.none() | separator, most),
        st.builds(parted, st.sampled_from(["partition", "rpartition"]), separator),
        st.builds(in_lines, st.booleans()),
    )


def _joins() -> st.SearchStrategy[Step]:
    def replaced(old: str, count: int, tracked: bool) -> Step:
        def truth(pairs: Pairs, other: Pairs) -> Pairs:
            if not old:  # not followed
                return written(text_of(pairs).replace(old, text_of(other) if tracked else "<>", count))
            return joined(split(pairs, old, count), other if tracked else written("<>")) if count else written_as(pairs)

        def written_as(pairs: Pairs) -> Pairs:
            return written(text_of(pairs))

        return Step(
            f"replace({old!r}, {count}, {tracked})", lambda t, o: t.replace(old, o if tracked else "<>", count), truth
        )

    return st.one_of(
        st.builds(replaced, st.text("ab,", max_size=2), st.integers(-2, 2), st.booleans()),
        st.just(Step("+", lambda t, o: t + o, lambda p, o: p + o)),
        st.just(Step("o+", lambda t, o: o + t, lambda p, o: o + p)),
        st.just(Step("'<' +", lambda t, _: "<" + t, lambda p, _: [*written("<"), *p])),
        st.just(Step("+ '>'", lambda t, _: t + ">", lambda p, _: [*p, *written(">")])),
        st.just(Step("t.join", lambda t, o: join(["", o, o], t), lambda p, o: joined([[], o, o], p))),
        st.just(Step("o.join", lambda t, o: o.join([t, t]), lambda p, o: joined([p, p], o))),
        st.just(Step("join one", lambda t, o: join([t], o), lambda p, _: p)),
    )

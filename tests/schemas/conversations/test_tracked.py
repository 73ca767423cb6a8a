"""A tracked text is what a plain one is, and never says of a character that it is another.

The independent truth: a list of characters, each with its place, and str's operations written anew over such lists.
"""

import copy
import json
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.conversations.tracked import Origin, Run, Tracked, dump_json, join, runs_of
from tests.schemas.conversations.pairs import Pairs, Step, pairs_of, steps

SOURCE, OTHER = Origin(0, "content"), Origin(1, "content")
ALPHABET = st.text(alphabet="ab,\n\r \tÄ\U0001f600\x85", max_size=12)


def places(text: str, sources: dict[Origin, str]) -> Pairs:
    """Of each character, where it says that it is from; runs are checked on the way."""
    found: Pairs = [(character, None) for character in str.__str__(text)]
    last = 0
    for start, end, origin, place in runs_of(text):
        assert last <= start < end <= len(text)
        last = end
        for at in range(start, end):
            where = None if place is None else place + at - start
            assert where is None or sources[origin][where] == found[at][0]
            found[at] = (found[at][0], (origin, where))
    return found


@settings(max_examples=400, deadline=None)
@given(source=ALPHABET, other=ALPHABET, chosen=st.lists(st.tuples(steps(), ALPHABET, st.integers()), max_size=6))
def test_it_is_as_a_plain_text_and_every_character_is_followed(
    source: str, other: str, chosen: list[tuple[Step, str, int]]
) -> None:
    sources = {SOURCE: source, OTHER: other}
    tracked: str = Tracked.of(source, SOURCE)
    second = Tracked.of(other, OTHER)
    plain, pairs, more = source, pairs_of(source, SOURCE), pairs_of(other, OTHER)
    for step, _, which in chosen:
        try:
            wanted = step.plain(plain, other)
        except (ValueError, IndexError, TypeError) as error:
            with pytest.raises(type(error)):
                step.plain(tracked, second)
            continue
        found = step.plain(tracked, second)
        assert found == wanted
        truth = step.truth(pairs, more)
        if isinstance(found, str):
            tracked, plain, pairs = found, wanted, truth
        elif found:
            tracked, plain, pairs = found[which % len(found)], wanted[which % len(found)], truth[which % len(found)]
        assert tracked == plain
        assert places(tracked, sources) == pairs
        # What was not followed is a plain text, and what is inserted into such a one is not followed either.
        tracked = tracked if isinstance(tracked, Tracked) else Tracked(tracked, ())


LOSING: list[Callable[[str], str]] = [
    str.upper, str.lower, str.title, str.capitalize, str.swapcase, str.casefold, str.expandtabs,
    lambda text: text.center(9), lambda text: text.ljust(9), lambda text: text.rjust(9), lambda text: text.zfill(9),
    lambda text: text * 2, lambda text: 2 * text, lambda text: text[::-1], lambda text: text[::2],
    lambda text: text.translate({97: "bb"}), lambda text: f"{text:>9}", lambda text: "<%s" % text,  # noqa: UP031
    lambda text: text % (), lambda text: text.format(), lambda text: "<{}".format(text),  # noqa: UP032
    lambda text: text.replace("", "-"), lambda text: text.encode().decode(),
]  # fmt: skip


@settings(deadline=None)
@given(source=ALPHABET, number=st.integers(0, len(LOSING) - 1))
def test_what_is_not_followed_says_nothing(source: str, number: int) -> None:
    text = Tracked.of(source, SOURCE)
    found = LOSING[number](text)
    assert found == LOSING[number](source)
    assert found is text or runs_of(found) == ()  # itself where there is nothing to do


def test_a_separator_within_a_part_is_not_mistaken_for_it() -> None:
    """`think` stands in `</think>`, too."""
    parts = Tracked.of("so</think>think", SOURCE).split("</think>")
    assert [runs_of(part) for part in parts] == [(Run(0, 2, SOURCE, 0),), (Run(0, 5, SOURCE, 10),)]
    assert runs_of(Tracked.of("abb", SOURCE).split("ab")[1]) == (Run(0, 1, SOURCE, 2),)


def test_characters_that_go_on_are_one_run() -> None:
    text = Tracked.of("abcd", SOURCE)
    assert runs_of(text[:2] + text[2:]) == (Run(0, 4, SOURCE, 0),)
    assert runs_of("".join([*text])) == ()  # the method of a plain string knows nothing of runs
    assert runs_of(join([*text])) == (Run(0, 4, SOURCE, 0),)
    assert runs_of(text[2:] + text[:2]) == (Run(0, 2, SOURCE, 2), Run(2, 4, SOURCE, 0))
    assert runs_of("<" + text + ">") == (Run(1, 5, SOURCE, 0),)
    assert runs_of(Tracked.of("ab", SOURCE, None) + Tracked.of("c", SOURCE, None)) == (Run(0, 3, SOURCE, None),)
    assert runs_of(Tracked.of("", SOURCE)) == runs_of(text[2:2]) == runs_of(text[3:1]) == ()


@pytest.mark.parametrize("wrong", [3, None, b"x", ["x"]])
def test_what_a_plain_text_refuses_is_refused(wrong: Any) -> None:
    text = Tracked.of("ab", SOURCE)
    for operation in (
        lambda: text + wrong, lambda: wrong + text, lambda: text.join(["a", wrong]), lambda: text.join([wrong]),
        lambda: text.replace("a", wrong), lambda: wrong in text, lambda: text < wrong,
    ):  # fmt: skip
        with pytest.raises(TypeError):
            operation()
    with pytest.raises(TypeError):
        text["0"]  # type: ignore[index]  # a key, as templates try
    for empty in (lambda: text.split(""), lambda: text.rsplit(""), lambda: text.partition("")):
        with pytest.raises(ValueError, match="empty separator"):
            empty()
    for place in (2, -3):
        with pytest.raises(IndexError):
            text[place]


def test_it_is_equal_to_a_plain_text_wherever_one_is_looked_up() -> None:
    text = Tracked.of("key", SOURCE)
    assert text == "key" and hash(text) == hash("key") and text in {"key": 1}
    assert text < "kez" and "e" in text and text in "a key" and max(text, "a") == "key"
    assert text.isalpha() and len(text) == 3 and text.index("y") == 2 and [*text] == ["k", "e", "y"]
    assert text[-1] == "y" and runs_of(text[-1]) == (Run(0, 1, SOURCE, 2),)
    assert [*map(runs_of, text)] == [(Run(0, 1, SOURCE, place),) for place in range(3)]
    assert json.dumps({text: [text]}) == '{"key": ["key"]}' and f"{text}" == "key" and repr(text) == "'key'"


def test_it_can_be_pickled_and_copied() -> None:
    text = Tracked.of("key", SOURCE)[1:]
    for same in (pickle.loads(pickle.dumps(text)), copy.copy(text), copy.deepcopy([text])[0]):  # noqa: S301
        assert same == "ey" and runs_of(same) == (Run(0, 2, SOURCE, 1),)
    assert pickle.loads(pickle.dumps(Tracked("plain"))) == "plain"  # noqa: S301


def test_json_is_the_first_origins_rewritten() -> None:
    call = {"name": Tracked.of("f", SOURCE), "arguments": {"a": [1, Tracked.of("ü", OTHER)]}}
    text = dump_json(call, ensure_ascii=False)
    assert text == '{"name": "f", "arguments": {"a": [1, "ü"]}}'
    assert runs_of(text) == (Run(0, len(text), SOURCE, None),)
    assert runs_of(dump_json({"name": "f"})) == ()
    assert runs_of(dump_json({Tracked.of("k", OTHER): 1})) == (Run(0, 8, OTHER, None),)

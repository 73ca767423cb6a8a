"""A sample says all that it holds in bytes, so that two are told apart by whatever differs."""

from dataclasses import replace
from typing import Any

import pytest

from pipeline.corpus.sample import NO_SPANS, Sample
from schemas.cache.samples import Turn

TURNS = (Turn(0, "user", "content", 3, 7), Turn(1, "assistant", "end", 13, 16))
CHAT = Sample("c", "<u>Why?<a>So.<e>", ((10, 16),), TURNS)


def test_a_response_is_a_target_and_its_prompt_context() -> None:
    sample = Sample.of_response("n", "Why? é", "Because.")
    assert sample == Sample("n", "Why? éBecause.", ((6, 14),))
    assert sample.parts == (b"n", "Why? é".encode(), b"Because.")
    assert not sample.is_conversation
    assert Sample.of_response("n", "", "x").parts == (b"n", b"", b"x")


def test_a_conversation_has_turns_or_what_stands_in_their_place() -> None:
    assert CHAT.is_conversation
    assert replace(CHAT, turns=(), structure="{}").is_conversation
    assert not replace(CHAT, turns=()).is_conversation
    assert CHAT.parts == (
        b"c",
        b"<u>Why?<a>",
        b"So.<e>",
        b"((10, 16),)",
        b"[(0, 'user', 'content', 3, 7), (1, 'assistant', 'end', 13, 16)]",
        b"",
    )


@pytest.mark.parametrize(
    "changed",
    [
        {"id": "d"}, {"text": "<u>Why?<a>So!<e>"}, {"targets": ((10, 13),)}, {"targets": ((10, 13), (14, 16))},
        {"structure": "{}"}, {"turns": TURNS[:1]}, {"turns": (replace(TURNS[0], role="tool"), TURNS[1])},
    ],
)  # fmt: skip
def test_whatever_differs_is_in_its_parts(changed: dict[str, Any]) -> None:
    assert replace(CHAT, **changed).parts != CHAT.parts


def test_no_spans_are_three_empty_lists_of_ranges() -> None:
    assert [spans.shape for spans in (NO_SPANS.words, NO_SPANS.noun_phrases, NO_SPANS.verb_phrases)] == [(0, 2)] * 3
    assert NO_SPANS.words.dtype == "int32"

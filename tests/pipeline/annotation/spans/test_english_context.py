"""Letters settled by context: each open letter one way and the other, and phrases over settled letters."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.annotation.spans.english_context import coarse, find_noun_phrases, settle
from pipeline.annotation.spans.patterns import TAG_OF_UPOS

LETTERS = 'JNERCDPE&XVIt.sMpQWUbrTSx_nvBfGmzZgLadolceqwkyjHhuO,"(-)$:/'
OPEN = set("nvBfGmzZgLadolcqwkyjHhuO")

BY_HAND = [
    ("Dn", "DN", "the work"),
    ("pn", "pV", "they work"),
    ("Tv", "TV", "to need"),
    ("pov", "pbV", "she's needed: a verb after 's"),
    ("EoN", "ESN", "John's dog: a possessive"),
    ("HN", "MN", "her name"),
    ("pVH", "pVP", "saw her"),
    ("ebDN", "xVDN", "there is a dog"),
    ("DuR", "DUR", "last week"),
    ("paL", "pXV", "they have worked"),
    ("paN", "pVN", "they have dogs"),
    ("DLN", "DQN", "the broken bridge"),
    ("DJm", "DJN", "the old dogs"),
    ("NqL", "NPV", "the dog that barked"),
    ("pVq", "pVP", "know that."),
]


@pytest.mark.parametrize(("tags", "settled", "of"), BY_HAND, ids=[of for *_, of in BY_HAND])
def test_letters_are_settled_by_their_neighbours(tags: str, settled: str, of: str) -> None:
    assert settle(tags) == settled


@given(st.text(st.sampled_from(LETTERS), max_size=40))
def test_every_letter_is_settled_in_its_place(tags: str) -> None:
    settled = settle(tags)
    assert len(settled) == len(tags) and not OPEN & set(settled)
    known = set(TAG_OF_UPOS.values()) | set(',"(-)$:/_S')
    assert set(coarse(settled)) - {"x"} <= known
    spans = find_noun_phrases(settled)
    flat = [place for span in spans for place in span]
    assert flat == sorted(flat) and all(start < end <= len(tags) for start, end in spans)


@pytest.mark.parametrize(
    ("settled", "phrases"),
    [
        ("DJNV", [(0, 3)]),
        ("MENSJN", [(0, 6)]),  # my brother John's old dog
        ("DU", []),  # last week, as an adverb
        ("pVP", [(0, 1), (2, 3)]),
        ("DrJ,J&JN-JN", [(0, 11)]),
        ("DE_E_", [(0, 5)]),  # the U.S. Inc.
        ("NIN", [(0, 1), (2, 3)]),
        ("JR", []),
    ],
)
def test_noun_phrases_by_hand(settled: str, phrases: list[tuple[int, int]]) -> None:
    assert find_noun_phrases(settled) == phrases

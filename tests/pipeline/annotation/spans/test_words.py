"""Words of any language, by hand and in any text."""

import pytest
from hypothesis import given, settings

from pipeline.annotation.spans.words import find_words
from tests.pipeline.annotation.texts import MESSY


@settings(max_examples=150, deadline=None)
@given(text=MESSY)
def test_words_cover_every_letter_and_digit_and_begin_and_end_with_one(text: str) -> None:
    words = find_words(text)
    covered = {i for start, end in words for i in range(start, end)}
    assert {i for i, character in enumerate(text) if character.isalnum()} <= covered
    for start, _ in words:
        assert text[start].isalnum()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("don't I’m o'clock 'quoted' dogs'", ["don't", "I’m", "o'clock", "quoted", "dogs"]),
        ("well-known and/or rock 'n' roll", ["well", "known", "and", "or", "rock", "n", "roll"]),
        ("3.14, 1,000; 10:30 is 5% of $7.", ["3.14", "1,000", "10:30", "is", "5", "of", "7"]),
        ("U.S. e.g. 2,no a:b", ["U.S", "e.g", "2", "no", "a", "b"]),
        ("see https://x.org/a-b?c=1, (www.y.com/) or me@home.org.", None),
        ("snake_case and _emphasis_ __init__", ["snake_case", "and", "emphasis", "init"]),
        ("Café e\u0301te\u0301 naïve straße", ["Café", "e\u0301te\u0301", "naïve", "straße"]),
        ("漢字とカタカナ語 한국어 문장", ["漢", "字", "と", "カタカナ", "語", "한국어", "문장"]),
        ("हिन्दी में می‌خواهم", ["हिन्दी", "में", "می‌خواهم"]),
        ("🙂 👩‍👩‍👧‍👦 -- …", []),
    ],
)
def test_words_by_hand(text: str, words: list[str] | None) -> None:
    expected = words if words is not None else ["see", "https://x.org/a-b?c=1", "www.y.com/", "or", "me@home.org"]
    assert [text[start:end] for start, end in find_words(text)] == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("me@home.org", ["me@home.org"]),
        ("10:30 a:b", ["10:30", "a", "b"]),
        ("_emphasis_ foo_bar", ["emphasis", "foo_bar"]),
        ("l·l 1;2", ["l", "l", "1", "2"]),
        ("v1.x2", ["v1.x2"]),
        ("カタカナabc", ["カタカナabc"]),
        ("ภาษาไทย", ["ภาษาไทย"]),
    ],
)
def test_where_it_differs_from_unicodes_default(text: str, words: list[str]) -> None:
    """As the module says; UAX #29 would part or join each of these in another way."""
    assert [text[start:end] for start, end in find_words(text)] == words

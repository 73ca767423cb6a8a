"""Half a character is found where it stands, and only there."""

from hypothesis import given
from hypothesis import strategies as st

from schemas.texts.surrogates import describe_surrogate


def test_the_first_half_is_named_with_its_place() -> None:
    assert describe_surrogate("aé\ud83dx\udc00") == (
        "an unpaired surrogate, \\ud83d, at character 2: that is half of a character, and no text; repair the record"
    )
    assert describe_surrogate("") is None and describe_surrogate("é🙂") is None


@given(st.text(st.characters(exclude_categories=[])))
def test_it_agrees_with_a_look_at_every_character(text: str) -> None:
    halves = [place for place, character in enumerate(text) if 0xD800 <= ord(character) < 0xE000]
    said = describe_surrogate(text)
    assert (said is None) if not halves else f"at character {halves[0]}:" in str(said)

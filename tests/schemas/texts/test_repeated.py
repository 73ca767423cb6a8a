"""The first name that is given twice, against a search of all pairs."""

from hypothesis import given
from hypothesis import strategies as st

from schemas.texts.repeated import repeated


@given(st.lists(st.sampled_from("abcd")))
def test_the_first_that_stood_before(names: list[str]) -> None:
    again = [name for place, name in enumerate(names) if name in names[:place]]
    assert repeated(names) == (again[0] if again else None)

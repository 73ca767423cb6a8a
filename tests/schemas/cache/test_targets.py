"""Which tokens and spans belong to a text's targets, against a search through all ranges."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from schemas.cache.targets import NO_TARGETS, ends_inside, lie_inside, range_of, response_targets


def test_a_response_is_one_range_unless_it_was_cut_away() -> None:
    assert response_targets(3, 9).tolist() == [[3, 9]] and response_targets(0, 1).tolist() == [[0, 1]]
    for none in (response_targets(4, 4), response_targets(0, 0), NO_TARGETS):
        assert none.shape == (0, 2) and none.dtype == np.int32
    assert response_targets(3, 9).dtype == np.int32


places = st.sets(st.integers(0, 20), max_size=8).map(sorted)
spans = st.lists(st.tuples(st.integers(0, 21), st.integers(1, 6)), max_size=9)


@given(places, spans)
def test_what_belongs_to_a_range(found: list[int], given_spans: list[tuple[int, int]]) -> None:
    ranges = list(zip(found[::2], found[1::2], strict=False))
    targets = np.array(ranges, np.int32).reshape(-1, 2)
    inside = [any(start < end <= stop for start, stop in ranges) for end in range(25)]
    assert ends_inside(np.arange(25), targets).tolist() == inside
    number = [next((r for r, (start, stop) in enumerate(ranges) if start < end <= stop), -1) for end in range(25)]
    assert range_of(np.arange(25), targets).tolist() == number and range_of(np.arange(25), targets).dtype == np.int64
    whole = [any(start <= a and a + n <= stop for start, stop in ranges) for a, n in given_spans]
    array = np.array([(a, a + n) for a, n in given_spans], np.int32).reshape(-1, 2)
    assert lie_inside(array, targets).tolist() == whole


def test_a_range_may_begin_where_another_ends() -> None:
    targets = np.array([[0, 2], [2, 5]], np.int32)
    assert ends_inside(np.array([0, 1, 2, 3, 5, 6]), targets).tolist() == [False, True, True, True, True, False]
    assert lie_inside(np.array([[0, 2], [1, 3], [2, 5]]), targets).tolist() == [True, False, True]

"""Which tokens have rows, against the definition written as a plain loop."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from schemas.cache.token_rows import NO_ROWS, count_rows, every_row, row_positions, target_rows


def array(ranges: list[tuple[int, int]]) -> np.ndarray:
    return np.array(ranges, np.int32).reshape(-1, 2)


def test_every_token_or_none() -> None:
    assert every_row(7).tolist() == [[0, 7]] and every_row(0).tolist() == NO_ROWS.tolist() == []
    assert every_row(7).dtype == every_row(0).dtype == np.int32 and every_row(0).shape == (0, 2)
    assert (count_rows(every_row(7)), count_rows(NO_ROWS)) == (7, 0)
    assert row_positions(NO_ROWS).tolist() == [] and row_positions(NO_ROWS).dtype == np.int64


def test_of_a_prompt_the_last_token_alone_is_kept() -> None:
    offsets = array([(0, 0), (0, 2), (2, 5), (5, 9), (9, 12)])
    assert target_rows(offsets, array([(5, 12)])).tolist() == [[2, 5]]
    assert target_rows(offsets, array([(4, 12)])).tolist() == [[1, 5]]  # a token across the prompt's end is learnt
    assert target_rows(offsets, array([(0, 2)])).tolist() == [[0, 2], [4, 5]]
    assert target_rows(offsets, array([])).tolist() == [[4, 5]]  # which says whether the text ends
    assert target_rows(array([]), array([(0, 5)])).tolist() == []


places = st.sets(st.integers(0, 40), max_size=8).map(sorted)
cuts = st.lists(st.integers(0, 6), max_size=12)


@given(cuts, places)
def test_targets_and_the_tokens_before_them(lengths: list[int], found: list[int]) -> None:
    """Some tokens are empty, as special ones are."""
    ends = np.cumsum(lengths).tolist()
    offsets = array(list(zip([0, *ends[:-1]], ends, strict=True)) if ends else [])
    ranges = list(zip(found[::2], found[1::2], strict=False))
    learnt = [any(start < end <= stop for start, stop in ranges) for end in ends]
    wanted = [t for t in range(len(ends)) if learnt[t] or t == len(ends) - 1 or learnt[t + 1]]
    rows = target_rows(offsets, array(ranges))
    assert row_positions(rows).tolist() == wanted and count_rows(rows) == len(wanted)
    assert rows.dtype == np.int32 and (rows[:, 0] < rows[:, 1]).all() and (rows[1:, 0] > rows[:-1, 1]).all()

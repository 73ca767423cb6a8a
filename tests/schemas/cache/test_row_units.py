"""Rows by what they stand for, against counting by hand."""

import numpy as np
import pytest

from schemas.cache.row_units import as_square, count_pairs, count_queries, count_rows_by_unit, query_starts


@pytest.mark.parametrize("causal", [True, False])
def test_pairs_are_those_of_a_double_loop(causal: bool) -> None:
    for tokens in (0, 1, 2, 7):
        pairs = [(q, k) for q in range(tokens) for k in range(tokens) if k <= q or not causal]
        assert count_pairs(tokens, causal) == len(pairs) and count_queries(len(pairs), causal) == tokens
        starts = [next(n for n, (q, _) in enumerate(pairs) if q == token) for token in range(tokens)]
        assert query_starts(tokens, causal).tolist() == starts
        values = np.array([[10 * q + k, -k] for q, k in pairs]).reshape(-1, 2)
        square = as_square(values, causal)
        assert square.shape == (tokens, tokens, 2)
        assert all(square[q, k].tolist() == [10 * q + k, -k] for q, k in pairs)
        assert np.count_nonzero(square) == np.count_nonzero(values)  # and 0 elsewhere
        assert np.array_equal(as_square(values[:, 0], causal), square[..., 0])


def test_units_of_several_samples() -> None:
    counts = count_rows_by_unit([3, 0, 2], np.array([1, 0, 2]), True)
    assert {unit: rows.tolist() for unit, rows in counts.items()} == {
        "samples": [1, 1, 1],
        "tokens": [3, 0, 2],
        "kept": [1, 0, 2],
        "pairs": [6, 0, 3],
    }
    assert count_rows_by_unit([3], [3], False)["pairs"].tolist() == [9]
    assert count_pairs(np.array([2**20]), True).tolist() == [2**19 * (2**20 + 1)]


@pytest.mark.parametrize(("pairs", "causal"), [(2, True), (5, True), (2, False)])
def test_other_numbers_are_no_pairs(pairs: int, causal: bool) -> None:
    with pytest.raises(ValueError, match=f"{pairs} pairs are not those of a text"):
        count_queries(pairs, causal)

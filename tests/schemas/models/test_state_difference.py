"""Differences are counted by row and measured by number; what is not numbers is the same or is not."""

import numpy as np

from schemas.models.state_difference import Difference, StoredRows


def numbers(*rows: list[float]) -> StoredRows:
    values = np.array(rows, np.float64)
    return StoredRows((values,), values, len(rows))


def codes(*rows: int) -> StoredRows:
    return StoredRows((np.array(rows, np.uint8),), None, len(rows))


def test_the_largest_is_kept_over_samples() -> None:
    found = Difference()
    found.compare(numbers([1, 2], [3, -8]), numbers([1, 2.5], [3, -8]))
    found.compare(numbers([1, 2]), numbers([1, 2.25]))
    assert (found.rows, found.differing, found.largest, found.size) == (3, 2, 0.5, 8.0) and not found.is_none


def test_the_same_is_no_difference_and_has_a_size() -> None:
    found = Difference()
    found.compare(numbers([1, -2]), numbers([1, -2]))
    assert found.is_none and (found.largest, found.size) == (0.0, 2.0)


def test_other_counts_of_rows_differ_throughout() -> None:
    found = Difference()
    found.compare(numbers([1, 2], [3, 4]), numbers([1, 2]))
    assert (found.rows, found.differing, found.largest) == (2, 2, None)


def test_codes_are_the_same_or_not() -> None:
    found = Difference()
    found.compare(codes(1, 2), codes(1, 2))
    assert found.is_none
    found.compare(codes(1, 2), codes(1, 3))
    found.count(same=False)
    assert (found.rows, found.differing, found.largest) == (5, 3, None)

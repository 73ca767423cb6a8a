"""Rows and columns, by hand: which positions a row sums, which columns are compared, and what is only a view."""

import pytest
import torch

from trainer.objectives.kernels.pooled_rows import Columns, Rows

# Row 0 is positions 4 and 5, row 1 is position 6, row 2 is positions 2, 3 and 8.
SPANS = Rows(
    torch.tensor([4, 5, 6, 2, 3, 8]),
    torch.tensor([0, 0, 1, 2, 2, 2]),
    torch.tensor([0.25, 0.75, 1.0, 0.5, 0.25, 0.25]),
    3,
)
EACH = Rows(torch.tensor([1, 2, 5]), torch.arange(3), torch.ones(3), 3)


def test_members_of_rows() -> None:
    assert not SPANS.single and EACH.single
    assert SPANS._first_member == [0, 2, 3, 6] and EACH._first_member == [0, 1, 2, 3]
    assert SPANS.members(slice(0, 2)) == slice(0, 3) and SPANS.members(slice(1, 3)) == slice(2, 6)
    assert EACH.members(slice(1, 3)) == slice(1, 3)


def test_positions_in_a_row_are_a_slice() -> None:
    assert SPANS.positions(slice(0, 3)) == slice(4, 7) and SPANS.positions(slice(3, 5)) == slice(2, 4)
    assert EACH.positions(slice(2, 3)) == slice(5, 6) and EACH.positions(slice(0, 2)) == slice(1, 3)
    for members, wanted in ((slice(2, 4), [6, 2]), (slice(0, 6), [4, 5, 6, 2, 3, 8]), (slice(2, 2), [])):
        found = SPANS.positions(members)
        assert isinstance(found, torch.Tensor) and found.tolist() == wanted


def test_positions_of_no_row() -> None:
    assert SPANS.outside(10).tolist() == [0, 1, 7, 9] and EACH.outside(6).tolist() == [0, 3, 4]
    nothing = Rows(torch.empty(0, dtype=torch.long), torch.empty(0, dtype=torch.long), torch.empty(0), 0)
    assert nothing.outside(2).tolist() == [0, 1] and nothing.single


def test_a_row_that_is_its_one_member_is_not_pooled() -> None:
    assert EACH.row_of(slice(0, 3), slice(0, 3)) is None and SPANS.row_of(slice(1, 2), slice(2, 3)) is None
    found = SPANS.row_of(slice(1, 3), slice(2, 6))
    assert found is not None and found.tolist() == [0, 1, 1, 1]
    halved = Rows(torch.tensor([0, 1]), torch.tensor([0, 1]), torch.tensor([0.5, 1.0]), 2, whole=False)
    found = halved.row_of(slice(0, 2), slice(0, 2))
    assert found is not None and found.tolist() == [0, 1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_pooling_is_the_weighted_sum(dtype: torch.dtype) -> None:
    logits = torch.arange(20, dtype=dtype).reshape(10, 2)
    members = SPANS.members(slice(1, 3))
    pooled = SPANS.pool(logits[SPANS.positions(members)], slice(1, 3), members)
    assert pooled.dtype == dtype
    assert pooled.tolist() == [[12, 13], [0.5 * 4 + 0.25 * 6 + 0.25 * 16, 0.5 * 5 + 0.25 * 7 + 0.25 * 17]]


def test_columns() -> None:
    logits, first, chosen = torch.arange(8.0).reshape(2, 4), Columns(3), Columns(2, torch.tensor([3, 1]))
    assert first.are_all(3) and not first.are_all(4) and not Columns(2, torch.tensor([0, 1])).are_all(2)
    assert first.take(logits).tolist() == [[0, 1, 2], [4, 5, 6]] and chosen.take(logits).tolist() == [[3, 1], [7, 5]]
    whole = torch.full((2, 4), 9.0)
    first.put(torch.tensor([[1.0, 2, 3, 0], [4, 5, 6, 0]]), whole)
    assert whole.tolist() == [[1, 2, 3, 0], [4, 5, 6, 0]]
    chosen.put(torch.tensor([[1.0, 2, 0], [3, 4, 0]]), whole)
    assert whole.tolist() == [[0, 2, 0, 1], [0, 4, 0, 3]]

"""Rows of a unit's arrays: whose they are in a batch of any order, and where a number is none."""

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from pipeline.corpus.sample import AnnotatedSample
from pipeline.teacher.unit_rows import UnitRows, finite_rows, first_not_finite, kept_tokens, owner, total
from schemas.cache.arrays import ArrayRecord


def sample(tokens: int, *kept: tuple[int, int]) -> AnnotatedSample:
    rows = np.array(kept, np.int32).reshape(-1, 2)
    return cast(AnnotatedSample, SimpleNamespace(token_ids=np.zeros(tokens, np.int32), token_rows=rows))


# Of six tokens, 0, 2, 3 and 5 are kept.
SAMPLES = [sample(3, (0, 1), (2, 3)), sample(1, (0, 1)), sample(2, (1, 2))]
KEPT = ArrayRecord(kind="hidden", layer=1, width=2, dtype="bfloat16")
ALL = ArrayRecord(kind="mass", layer=1, width=None, dtype="float32")


def test_rows_are_counted_in_the_units_of_their_arrays() -> None:
    assert (KEPT.unit, ALL.unit) == ("kept", "tokens")
    rows = UnitRows(SAMPLES, [KEPT, ALL], True)
    assert rows.stored[KEPT.path].shape == (4, 2) and rows.stored[KEPT.path].dtype == np.uint16
    assert rows.stored[ALL.path].shape == (6,) and rows.stored[ALL.path].dtype == np.float32
    assert kept_tokens(SAMPLES).tolist() == [0, 2, 3, 5]


def test_a_batch_in_another_order_is_stored_in_that_of_the_unit() -> None:
    rows = UnitRows(SAMPLES, [KEPT, ALL], True)
    places = rows.places([2, 0])
    rows.store(places, ALL, torch.tensor([40.0, 50.0, 0.0, 10.0, 20.0]))
    rows.store(places, KEPT, torch.tensor([[50, 51], [0, 1], [20, 21]], dtype=torch.bfloat16))
    rows.store(rows.places([1]), ALL, torch.tensor([30.0]))
    rows.store(rows.places([1]), KEPT, torch.tensor([[30, 31]], dtype=torch.bfloat16))
    assert rows.stored[ALL.path].tolist() == [0, 10, 20, 30, 40, 50]
    assert rows.of_sample(0, KEPT).tolist() == [[0, 1], [20, 21]] and rows.of_sample(2, KEPT).tolist() == [[50, 51]]
    assert rows.of_sample(1, ALL).tolist() == [30]


def test_a_row_of_a_batch_is_that_of_one_sample() -> None:
    assert [owner(row, KEPT, SAMPLES, True) for row in range(4)] == [0, 0, 1, 2]
    assert [owner(row, ALL, SAMPLES, True) for row in range(6)] == [0, 0, 0, 1, 2, 2]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_first_row_with_a_number_that_is_none_is_found(dtype: torch.dtype) -> None:
    rows: Any = torch.ones(4, 3, dtype=dtype)
    assert first_not_finite(rows, total(rows)) is None and first_not_finite(rows[:0], total(rows[:0])) is None
    largest = torch.full((4, 3), torch.finfo(torch.float32).max)
    assert not total(largest).isfinite() and first_not_finite(largest, total(largest)) is None  # the sum overflows
    for value in (float("nan"), float("-inf")):
        rows[2, 1] = rows[3, 0] = value
        assert first_not_finite(rows, total(rows)) == 2
        assert first_not_finite(rows[2:, 1], total(rows[2:, 1])) == 0
        assert finite_rows(rows).tolist() == [True, True, False, False]

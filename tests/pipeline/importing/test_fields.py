"""Columns of foreign records: numbers, or a message that names the column."""

from typing import Any

import numpy as np
import pytest

from pipeline.importing.fields import integers, rows_of
from schemas.errors import CorpusError


def test_columns_become_arrays() -> None:
    record = {"ids": [1, 2], "rows": [[1.0, 2.5], []], "whole": [[3, 4]]}
    assert integers(record, "ids", "x:1").tolist() == [1, 2]
    found = rows_of(record, "rows", "x:1", np.float64)
    assert [row.tolist() for row in found] == [[1.0, 2.5], []]
    assert rows_of(record, "whole", "x:1", np.int64)[0].dtype == np.int64


@pytest.mark.parametrize(
    ("value", "dtype", "said"),
    [
        ("text", float, "is not a list"),
        ([1], float, "is not one list of numbers per position"),
        ([[[1]]], float, "is not one list of numbers per position"),
        ([["a"]], float, "holds something that is not a list of numbers"),
        ([[{}]], float, "holds something that is not a list of numbers"),
        ([[0.5]], int, "holds something that is not a whole number of 32 bits"),
        ([[float("nan")]], int, "holds something that is not a whole number of 32 bits"),
        ([[2**40]], int, "holds something that is not a whole number of 32 bits"),
    ],
)
def test_what_is_none_is_named(value: Any, dtype: Any, said: str) -> None:
    with pytest.raises(CorpusError, match=f"x:1: 'column' {said}"):
        rows_of({"column": value}, "column", "x:1", dtype)


@pytest.mark.parametrize("value", [[1.5], [True], ["1"], [2**31], [None], {}, None])
def test_integers_are_whole(value: Any) -> None:
    with pytest.raises(CorpusError, match="x:1: 'column'"):
        integers({"column": value}, "column", "x:1")

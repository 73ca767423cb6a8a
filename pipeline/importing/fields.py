"""Columns of a foreign record as arrays. Shapes: n positions, k entries."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from schemas.errors import CorpusError
from schemas.shown import quoted


def list_of(record: Mapping[str, Any], name: str, place: str) -> list[Any]:
    """A field that is a list. Raises CorpusError."""
    found = record.get(name)
    if not isinstance(found, list):
        raise CorpusError(f"{place}: {quoted(name)} is not a list")
    return found


def integers(record: Mapping[str, Any], name: str, place: str) -> np.ndarray:
    """[n] int64 of a field. Raises CorpusError."""
    found = list_of(record, name, place)
    if not all(type(value) is int and -(2**31) <= value < 2**31 for value in found):
        raise CorpusError(f"{place}: {quoted(name)} holds something that is not a whole number of 32 bits")
    return np.array(found, np.int64)


def rows_of(record: Mapping[str, Any], name: str, place: str, dtype: Any) -> list[np.ndarray]:
    """A list of lists of numbers, one per position. Raises CorpusError."""
    rows = list_of(record, name, place)
    try:
        found = [np.array(row, np.float64) for row in rows]
    except (TypeError, ValueError) as error:
        raise CorpusError(f"{place}: {quoted(name)} holds something that is not a list of numbers") from error
    if any(row.ndim != 1 for row in found):
        raise CorpusError(f"{place}: {quoted(name)} is not one list of numbers per position")
    if np.issubdtype(dtype, np.integer) and any(
        ((row != np.floor(row)) | (np.abs(row) > 2**31)).any() for row in found
    ):
        raise CorpusError(f"{place}: {quoted(name)} holds something that is not a whole number of 32 bits")
    return [row.astype(dtype) for row in found]

"""Batches of binary tables as records: the columns that are wanted, checked before a value of them is read."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from schemas.errors import CorpusError
from schemas.shown import listed, quoted
from schemas.texts.format import Record


def require_columns(path: Path, present: Sequence[str], wanted: Sequence[str]) -> None:
    """Raises CorpusError: a wanted column is missing, or any is there twice, where the last would win in silence."""
    missing = next((name for name in wanted if name not in present), None)
    if missing is not None:
        raise CorpusError(f"{path}: no column {quoted(missing)}; available: {listed(present)}")
    twice = repeated(present)
    if twice is not None:
        raise CorpusError(f"{path}: two columns have the name {quoted(twice)}; rename one")


def repeated(names: Iterable[str]) -> str | None:
    """The first name that stood before, in linear time; None if each stands once."""
    seen: set[str] = set()
    return next((name for name in names if name in seen or seen.add(name)), None)  # type: ignore[func-returns-value]


def read_batches(path: Path, batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[int, Record]]:
    """Row, from 1, and record. Raises CorpusError naming the row and field of a value that cannot be read."""
    number = 0
    for batch in batches:
        try:
            records = batch.to_pylist()
        except ValueError as error:
            raise CorpusError(_find_unreadable(path, number, batch) or f"cannot read {path}: {error}") from error
        for record in records:
            number += 1
            yield number, record


def _find_unreadable(path: Path, before: int, batch: pa.RecordBatch) -> str | None:
    """The place of the first value that is not a Python value; Parquet does not check that its strings are UTF-8."""
    for row in range(batch.num_rows):
        for field, column in zip(batch.schema.names, batch.columns, strict=True):
            try:
                column[row].as_py()
            except ValueError as error:
                return f"{path}:{before + row + 1}: field {quoted(field)} cannot be read: {error}; convert the file"
    return None

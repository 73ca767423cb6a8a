"""Batches of binary tables as records: the columns that are wanted, checked before a value of them is read."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from schemas.errors import CorpusError
from schemas.shown import listed, quoted
from schemas.texts.format import RECORD_BYTES, Record
from schemas.texts.unfolded import is_single, row_bytes, slices


def require_columns(path: Path, schema: pa.Schema, wanted: Sequence[str]) -> None:
    """Raises CorpusError: a wanted column is missing, or holds lists or objects, or any is there twice, where the last
    would win in silence."""
    present = schema.names
    missing = next((name for name in wanted if name not in present), None)
    if missing is not None:
        raise CorpusError(f"{path}: no column {quoted(missing)}; available: {listed(present)}")
    twice = repeated(present)
    if twice is not None:
        raise CorpusError(f"{path}: two columns have the name {quoted(twice)}; rename one")
    nested = next((name for name in wanted if not is_single(schema.field(name).type)), None)
    if nested is not None:
        kind = quoted(str(schema.field(nested).type))
        raise CorpusError(f"{path}: column {quoted(nested)} holds {kind}, not a text or a number per row; convert it")


def repeated(names: Iterable[str]) -> str | None:
    """The first name that stood before, in linear time; None if each stands once."""
    seen: set[str] = set()
    return next((name for name in names if name in seen or seen.add(name)), None)  # type: ignore[func-returns-value]


def read_batches(path: Path, batches: Iterable[pa.RecordBatch], before: int = 0) -> Iterator[tuple[int, Record]]:
    """Row, from 1, and record; `before` rows came earlier.

    Raises CorpusError naming the row, and the field of a value that cannot be read, or a row above 64 MiB.
    """
    for batch in batches:
        sizes = row_bytes(batch)
        too_long = np.flatnonzero(sizes > RECORD_BYTES)
        if len(too_long):
            place = f"{path}:{before + int(too_long[0]) + 1}"
            raise CorpusError(f"{place}: a record of more than {RECORD_BYTES >> 20} MiB; is this a text?")
        for part in slices(batch, sizes):
            try:
                records = part.to_pylist()
            except ValueError as error:
                raise CorpusError(_find_unreadable(path, before, part) or f"cannot read {path}: {error}") from error
            yield from enumerate(records, before + 1)
            before += len(records)


def _find_unreadable(path: Path, before: int, batch: pa.RecordBatch) -> str | None:
    """The place of the first value that is not a Python value; Parquet does not check that its strings are UTF-8."""
    for row in range(batch.num_rows):
        for field, column in zip(batch.schema.names, batch.columns, strict=True):
            try:
                column[row].as_py()
            except ValueError as error:
                return f"{path}:{before + row + 1}: field {quoted(field)} cannot be read: {error}; convert the file"
    return None

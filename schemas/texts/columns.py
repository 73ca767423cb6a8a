"""Batches of binary tables as records: the columns that are wanted, checked before a value of them is read."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from schemas.errors import CorpusError
from schemas.shown import listed, quoted
from schemas.texts.format import RECORD_BYTES, Record, Source
from schemas.texts.nested import describe_unreadable, is_nested, value_reader
from schemas.texts.repeated import repeated
from schemas.texts.unfolded import row_bytes, slices


def find_columns(source: Source, schema: pa.Schema) -> list[str]:
    """The columns that are read, in the order of the fields that are wanted.

    Raises CorpusError: a wanted column is missing and not optional, or holds what it must not, or any is there twice,
    where the last would win in silence.
    """
    path, present = source.path, schema.names
    missing = next((name for name in source.fields if name not in present and name not in source.optional), None)
    if missing is not None:
        raise CorpusError(f"{path}: no column {quoted(missing)}; available: {listed(present)}")
    twice = repeated(present)
    if twice is not None:
        raise CorpusError(f"{path}: two columns have the name {quoted(twice)}; rename one")
    found = [name for name in source.fields if name in present]
    for name in found:
        _require_readable(f"{path}: column {quoted(name)}", schema.field(name).type, name in source.nested)
    return found


def _require_readable(column: str, kind: pa.DataType, may_nest: bool) -> None:
    if is_nested(kind) and not may_nest:
        raise CorpusError(f"{column} holds {quoted(str(kind))}, not a text or a number per row; convert it")
    unreadable = describe_unreadable(kind)
    if unreadable is not None:
        raise CorpusError(f"{column} holds {unreadable}, which cannot be read; convert it to a string of JSON")


def read_batches(path: Path, batches: Iterable[pa.RecordBatch], before: int = 0) -> Iterator[tuple[int, Record]]:
    """Row, from 1, and record; `before` rows came earlier. Values are as `value_reader` makes them.

    Raises CorpusError naming the row, and the field of a value that cannot be read, or a row above 64 MiB.
    """
    for batch in batches:
        sizes = row_bytes(batch)
        readers = {field.name: read for field in batch.schema if (read := value_reader(field.type)) is not None}
        too_long = np.flatnonzero(sizes > RECORD_BYTES)
        if len(too_long):
            place = f"{path}:{before + int(too_long[0]) + 1}"
            raise CorpusError(f"{place}: a record of more than {RECORD_BYTES >> 20} MiB; is this a text?")
        for part in slices(batch, sizes):
            try:
                records = part.to_pylist()
            except ValueError as error:
                raise CorpusError(_find_unreadable(path, before, part) or f"cannot read {path}: {error}") from error
            for number, record in enumerate(records, before + 1):
                for field, read in readers.items():
                    record[field] = read(record[field], f"{path}:{number}: field {quoted(field)}")
                yield number, record
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

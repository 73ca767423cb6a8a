"""Values that a Parquet file holds once and names in many rows: how many rows of it can be decoded at a time.

Not bounded are two kinds of files that no writer makes by itself: a column within lists that holds many texts as they
are, and in one row of it many names of a long one; and one of the type `arrow.json` that names a long one many times.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from schemas.errors import CorpusError
from schemas.shown import quoted
from schemas.texts.format import Source
from schemas.texts.nested import is_list, is_nested
from schemas.texts.unfolded import NUMBER_BYTES, SLICE_BYTES, row_bytes

BATCH_ROWS = 1024  # decoded at a time, or fewer if their values are long
UNPACKED_BYTES = 1 << 30  # of a column of a row group: above this, it may not shrink to less than a hundredth
MOST_SHRUNK = 100  # texts shrink to a third or a tenth
MOST_ITEMS = 1 << 28  # in lists of a column of a row group: where they are null, they take no bytes
PAGE_BYTES = 1 << 16  # of headers, about the most
NO_SIZES = np.empty(0, np.int64)


@dataclass(frozen=True)
class Folding:
    """How a row group is decoded."""

    batch_rows: int
    folded: tuple[str, ...] = ()
    """Columns of texts within lists that stay folded: one row may name a long text in each of its items."""


def measure(source: Source, table: pq.ParquetFile, group: int, columns: Sequence[str]) -> Folding:
    """How the `columns` of a row group are decoded in bounded memory; reads the values that its rows may share.

    Raises CorpusError for a column that is packed as no text is.
    """
    record = table.metadata.row_group(group)
    shared = []
    for chunk, nested in _chunks(table, group, columns):
        _require_unpackable(chunk, source, nested)
        if chunk.has_dictionary_page and _most_rows(chunk, nested) * chunk.total_uncompressed_size > SLICE_BYTES:
            shared.append((chunk, nested))
    longest, folded = 1, []
    for (chunk, nested), sizes in zip(shared, _entry_sizes(source, table, group, shared), strict=True):
        if nested and chunk.total_uncompressed_size <= _size_of_names(chunk, sizes):
            folded.append(chunk.path_in_schema)
        else:
            per_row = -(-chunk.num_values // max(1, record.num_rows))
            longest = max(longest, int(sizes.max(initial=0)) * per_row)
    return Folding(max(1, min(BATCH_ROWS, SLICE_BYTES // longest)), tuple(folded))


def _chunks(table: pq.ParquetFile, group: int, columns: Sequence[str]) -> Iterator[tuple[pq.ColumnChunkMetaData, bool]]:
    """Those of `columns`, and whether they are of texts or numbers within lists or objects."""
    nested = tuple(f"{name}." for name in columns if is_nested(table.schema_arrow.field(name).type))
    for number in range(table.metadata.num_columns):
        chunk = table.metadata.row_group(group).column(number)
        if chunk.path_in_schema.startswith(nested):
            yield chunk, True
        elif chunk.path_in_schema in columns:
            yield chunk, False


def _most_rows(chunk: pq.ColumnChunkMetaData, nested: bool) -> int:
    """How often one value may come in the rows of a batch."""
    return int(chunk.num_values) if nested else BATCH_ROWS


def _size_of_names(chunk: pq.ColumnChunkMetaData, sizes: np.ndarray) -> int:
    """The bytes of a column that has nothing except shared values and their names; of the latter, about the most."""
    return int(sizes.sum()) + NUMBER_BYTES * (len(sizes) + int(chunk.num_values)) + PAGE_BYTES


def _entry_sizes(
    source: Source, table: pq.ParquetFile, group: int, shared: Sequence[tuple[pq.ColumnChunkMetaData, bool]]
) -> list[np.ndarray]:
    """Of each column the bytes of the values that rows may share; none if it has numbers."""
    paths = [chunk.path_in_schema for chunk, _ in shared]
    if not paths:
        return []
    reader = pq.ParquetFile(source.stream, metadata=table.metadata, read_dictionary=paths)
    first = next(reader.iter_batches(batch_size=1, row_groups=[group], columns=paths), None)
    found = dict(zip(paths, [leaf for column in first or () for leaf in _leaves(column)], strict=False))
    return [
        row_bytes(pa.record_batch([leaf.dictionary], names=[""])) if isinstance(leaf, pa.DictionaryArray) else NO_SIZES
        for leaf in map(found.get, paths)
    ]


def _leaves(column: pa.Array) -> Iterator[pa.Array]:
    """The texts and numbers of a column, in the order of the file's columns."""
    if pa.types.is_struct(column.type):
        for number in range(column.type.num_fields):
            yield from _leaves(column.field(number))
    elif is_list(column.type):
        yield from _leaves(column.values)
    else:
        yield column


def _require_unpackable(chunk: pq.ColumnChunkMetaData, source: Source, nested: bool) -> None:
    packed, unpacked = chunk.total_compressed_size, chunk.total_uncompressed_size
    if unpacked > UNPACKED_BYTES and unpacked > MOST_SHRUNK * packed:
        raise CorpusError(
            f"{source.path}: column {quoted(chunk.path_in_schema)} unpacks from {packed:,} bytes to {unpacked:,}; no "
            "text shrinks like that: is this a corpus? If it is, convert the file to JSON lines"
        )
    if nested and chunk.num_values > MOST_ITEMS:
        raise CorpusError(
            f"{source.path}: column {quoted(chunk.path_in_schema)} has {chunk.num_values:,} items in one row group, "
            f"and {MOST_ITEMS:,} can be read: is this a corpus? If it is, write smaller row groups"
        )

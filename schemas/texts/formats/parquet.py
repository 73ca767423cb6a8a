"""Parquet: only the columns that are wanted are decoded, a bounded number of bytes at a time."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.errors import CorpusError
from schemas.shown import quoted
from schemas.texts.columns import read_batches, require_columns
from schemas.texts.format import Format, Record, Source
from schemas.texts.unfolded import SLICE_BYTES, row_bytes

BATCH_ROWS = 1024  # decoded at a time, or fewer if their values are long
UNPACKED_BYTES = 1 << 30  # of a column of a row group: above this, it may not shrink to less than a hundredth
MOST_SHRUNK = 100  # texts shrink to a third or a tenth


class Parquet(Format):
    """Rows count from 1."""

    name, suffixes, compressible = "parquet", (".parquet",), False

    def read(self, source: Source) -> Iterator[tuple[int, Record]]:
        """See `Format.read`."""
        with pq.ParquetFile(source.stream) as table:
            require_columns(source.path, table.schema_arrow, source.fields)
            before = 0
            for group in range(table.num_row_groups):
                longest = _longest_entry(table, source, group)
                batches = table.iter_batches(
                    batch_size=max(1, min(BATCH_ROWS, SLICE_BYTES // max(1, longest))),
                    row_groups=[group],
                    columns=list(source.fields),
                )
                yield from read_batches(source.path, batches, before)
                before += table.metadata.row_group(group).num_rows


FORMAT = Parquet()


def _longest_entry(table: pq.ParquetFile, source: Source, group: int) -> int:
    """The bytes of the longest value that rows of a group may share, 0 if that is too short to matter.

    Raises CorpusError for a column that is packed as no text is.
    """
    named = []
    for number in range(table.metadata.num_columns):
        chunk = table.metadata.row_group(group).column(number)
        if chunk.path_in_schema in source.fields:
            _require_unpackable(chunk, source)
            if chunk.has_dictionary_page and BATCH_ROWS * chunk.total_uncompressed_size > SLICE_BYTES:
                named.append(chunk.path_in_schema)
    if not named:
        return 0
    folded = pq.ParquetFile(source.stream, metadata=table.metadata, read_dictionary=named)
    first = next(folded.iter_batches(batch_size=1, row_groups=[group], columns=named), None)
    entries = [column.dictionary for column in first or () if isinstance(column, pa.DictionaryArray)]
    return max((int(row_bytes(pa.record_batch([e], names=[""])).max(initial=0)) for e in entries), default=0)


def _require_unpackable(chunk: pq.ColumnChunkMetaData, source: Source) -> None:
    packed, unpacked = chunk.total_compressed_size, chunk.total_uncompressed_size
    if unpacked > UNPACKED_BYTES and unpacked > MOST_SHRUNK * packed:
        raise CorpusError(
            f"{source.path}: column {quoted(chunk.path_in_schema)} unpacks from {packed:,} bytes to {unpacked:,}; no "
            "text shrinks like that: is this a corpus? If it is, convert the file to JSON lines"
        )

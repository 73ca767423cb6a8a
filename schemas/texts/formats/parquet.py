"""Parquet: only the columns that are wanted are decoded, a bounded number of bytes at a time."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.texts.columns import find_columns, read_batches
from schemas.texts.folded import Folding, measure
from schemas.texts.format import Format, Record, Source


class Parquet(Format):
    """Rows count from 1."""

    name, suffixes, compressible = "parquet", (".parquet",), False

    def read(self, source: Source) -> Iterator[tuple[int, Record]]:
        """See `Format.read`."""
        with pq.ParquetFile(source.stream) as table:
            columns = find_columns(source, table.schema_arrow)
            before = 0
            for group in range(table.num_row_groups):
                folding = measure(source, table, group, columns)
                yield from read_batches(source.path, _batches(source, table, group, columns, folding), before)
                before += table.metadata.row_group(group).num_rows


FORMAT = Parquet()


def _batches(
    source: Source, table: pq.ParquetFile, group: int, columns: list[str], folding: Folding
) -> Iterator[pa.RecordBatch]:
    reader = table
    if folding.folded:
        reader = pq.ParquetFile(source.stream, metadata=table.metadata, read_dictionary=list(folding.folded))
    for batch in reader.iter_batches(batch_size=folding.batch_rows, row_groups=[group], columns=columns):
        yield batch.select(columns)  # a name chooses also those that begin with it and a dot

"""Parquet: only the columns that are wanted are decoded."""

from collections.abc import Iterator

import pyarrow.parquet as pq

from schemas.texts.columns import read_batches, require_columns
from schemas.texts.format import Record, Source

BATCH_ROWS = 1024  # decoded at a time


class Parquet:
    """Rows count from 1."""

    name, suffixes, compressible = "parquet", (".parquet",), False

    def read(self, source: Source) -> Iterator[tuple[int, Record]]:
        """See `Format.read`."""
        with pq.ParquetFile(source.stream) as table:
            require_columns(source.path, table.schema_arrow.names, source.fields)
            batches = table.iter_batches(batch_size=BATCH_ROWS, columns=list(source.fields))
            yield from read_batches(source.path, batches)


FORMAT = Parquet()

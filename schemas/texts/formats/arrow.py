"""Arrow, as a file or a stream: what `datasets` saves to disk, and Feather."""

from collections.abc import Iterator

import pyarrow as pa

from schemas.texts.columns import find_columns, read_batches
from schemas.texts.format import Format, Record, Source

FILE_MAGIC = b"ARROW1"  # a stream has none


class Arrow(Format):
    """Rows count from 1. Every batch is validated first: a damaged one must not be read out of bounds."""

    name, suffixes, compressible = "arrow", (".arrow", ".feather"), False

    def read(self, source: Source) -> Iterator[tuple[int, Record]]:
        """See `Format.read`."""
        is_file = source.stream.read(len(FILE_MAGIC)) == FILE_MAGIC
        source.stream.seek(0)
        with pa.ipc.open_file(source.stream) if is_file else pa.ipc.open_stream(source.stream) as table:
            columns = find_columns(source, table.schema)
            every = (table.get_batch(i) for i in range(table.num_record_batches)) if is_file else iter(table)
            yield from read_batches(source.path, (self._checked(batch, columns) for batch in every))

    @staticmethod
    def _checked(batch: pa.RecordBatch, columns: list[str]) -> pa.RecordBatch:
        chosen = batch.select(columns)
        chosen.validate(full=True)
        return chosen


FORMAT = Arrow()

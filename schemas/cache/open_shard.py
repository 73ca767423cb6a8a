"""One opened shard: its samples as columns that are mapped, not read."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from schemas.cache.arrays import ArrayRecord
from schemas.cache.samples import SAMPLES_SCHEMA, CachedSample
from schemas.cache.shard import SAMPLES, STATES, ShardRecord
from schemas.cache.states import map_array
from schemas.errors import CacheError


class Shard:
    """One opened shard: its samples as columns."""

    def __init__(self, path: Path, record: ShardRecord):
        """`record` is what `check_shard` gave. Raises CacheError: samples.arrow is not readable, or not as recorded."""
        self.path, self.record = path, record
        table = _read_samples(path / SAMPLES)
        if len(table) != self.record.samples:
            raise CacheError(
                f"{path / SAMPLES} has {len(table)} rows, shard.json says {self.record.samples}; extract again"
            )
        # One record batch a shard: its only chunk is the map itself, where combining chunks would copy it.
        self._columns = {name: table.column(name).chunk(0) for name in table.column_names}
        self._lists = {
            name: _Ragged(self._columns[name])
            for name in ("token_ids", "token_offsets", "words", "noun_phrases", "verb_phrases")
        }
        self._row_start = self._columns["row_start"].to_numpy()
        self._row_count = self._columns["row_count"].to_numpy()

    def sample(self, row: int) -> CachedSample:
        """The sample in one row of samples.arrow."""
        return CachedSample(
            id=self._columns["sample_id"][row].as_py(),
            text=self._columns["text"][row].as_py(),
            prompt_end=self._columns["prompt_end"][row].as_py(),
            truncated=self._columns["truncated"][row].as_py(),
            **{name: column[row] for name, column in self._lists.items()},
        )

    def rows(self, row: int) -> tuple[int, int]:
        """First row and number of rows of one sample in every array of one row a token."""
        return int(self._row_start[row]), int(self._row_count[row])

    def array(self, array: ArrayRecord) -> np.ndarray:
        """All rows of one array, mapped anew; nothing is read yet."""
        return map_array(self.path / STATES, array, self.record.rows(array))


class _Ragged:
    """A list column as offsets and flat values: a row is a slice, without a copy."""

    def __init__(self, column: pa.ListArray):
        self.offsets = column.offsets.to_numpy()
        values = column.values
        pairs = pa.types.is_fixed_size_list(values.type)
        flat = (values.values if pairs else values).to_numpy(zero_copy_only=True)
        self.values = flat.reshape(-1, 2) if pairs else flat

    def __getitem__(self, row: int) -> np.ndarray:
        rows: np.ndarray = self.values[self.offsets[row] : self.offsets[row + 1]]
        return rows


def _read_samples(path: Path) -> pa.Table:
    try:
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        table.validate()  # or a length that is damaged would be read beyond the map's end; costs microseconds
    except (OSError, pa.ArrowException) as error:
        raise CacheError(f"cannot read {path}: {error}; remove its shard and extract again") from error
    if not table.schema.equals(SAMPLES_SCHEMA, check_metadata=True):
        raise CacheError(
            f"{path} is not of the format that this stillroom reads; use the one that wrote it, or extract again"
        )
    return table

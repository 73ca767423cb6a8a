"""One opened shard: its samples as columns that are mapped, not read."""

import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from schemas.cache.arrays import ArrayRecord
from schemas.cache.list_columns import ListColumn
from schemas.cache.row_units import count_rows_by_unit
from schemas.cache.samples import SAMPLES_SCHEMAS, CachedSample, Turn
from schemas.cache.shard import SAMPLES, STATES, ShardRecord
from schemas.cache.states import map_array
from schemas.cache.targets import response_targets
from schemas.cache.token_rows import every_row
from schemas.cache.ways_out import redo
from schemas.errors import CacheError

LISTS = ("token_ids", "token_offsets", "words", "noun_phrases", "verb_phrases")
LISTS_OF = {1: LISTS, 2: ("targets", "token_rows", *LISTS)}  # by the version of samples.arrow


class Shard:
    """One opened shard: its samples as columns."""

    def __init__(self, path: Path, record: ShardRecord):
        """`record` is what `check_shard` gave. Raises CacheError: samples.arrow is not readable, or not as recorded.

        This trusts what the file says; `schemas.cache.proof` checks it.
        """
        self.path, self.record = path, record
        table, self.version = read_samples(path / SAMPLES)
        if len(table) != self.record.samples:
            raise CacheError(
                f"{path / SAMPLES} has {len(table)} rows, shard.json says {self.record.samples}; {redo(path)}"
            )
        # One record batch per shard: its only chunk is the map itself, where combining chunks would copy it.
        self.columns: dict[str, Any] = {name: table.column(name).chunk(0) for name in table.column_names}
        self.lists = {name: ListColumn(self.columns[name]) for name in LISTS_OF[self.version]}
        self.row_start: np.ndarray = self.columns["row_start"].to_numpy()
        self.row_count: np.ndarray = self.columns["row_count"].to_numpy()

    def sample(self, row: int) -> CachedSample:
        """The sample in one row of samples.arrow."""
        text = self.columns["text"][row].as_py()
        lists: dict[str, Any] = {name: column[row] for name, column in self.lists.items()}
        return CachedSample(
            id=self.columns["sample_id"][row].as_py(),
            text=text,
            truncated=self.columns["truncated"][row].as_py(),
            **lists | self._of_version(row, len(text)),
        )

    def _of_version(self, row: int, length: int) -> dict[str, Any]:
        """What the versions say differently. Of version 1, the targets follow from the prompt, and all tokens have
        rows."""
        if self.version == 1:
            targets = response_targets(self.columns["prompt_end"][row].as_py(), length)
            return {"targets": targets, "token_rows": every_row(int(self.row_count[row]))}
        return {
            "turns": tuple(Turn(**turn) for turn in self.columns["turns"][row].as_py()),
            "structure": self.columns["structure"][row].as_py(),
        }

    def rows(self, row: int) -> tuple[int, int]:
        """First row and number of rows of one sample in every array of a row for each token."""
        return int(self.row_start[row]), int(self.row_count[row])

    def kept_rows(self, row: int) -> tuple[int, int]:
        """The same in every array whose rows follow `states.rows`."""
        return int(self.kept_start[row]), int(self.kept_count[row])

    @cached_property
    def kept_start(self) -> np.ndarray:
        """[samples] int64."""
        start: np.ndarray = self.row_start if self.version == 1 else self.columns["kept_start"].to_numpy()
        return start

    @cached_property
    def kept_count(self) -> np.ndarray:
        """[samples] int64: how many tokens of each have rows. Relies on what `schemas.cache.proof` proves."""
        if self.version == 1:
            return self.row_count.astype(np.int64)
        ranges = self.lists["token_rows"]
        ends = np.concatenate([[0], np.cumsum(ranges.values[:, 1] - ranges.values[:, 0], dtype=np.int64)])
        counts: np.ndarray = ends[ranges.offsets[1:]] - ends[ranges.offsets[:-1]]
        return counts

    def row_counts(self, array: ArrayRecord, causal: bool) -> np.ndarray:
        """[samples] int64: rows of each in one array of a teacher that is causal or is not."""
        return count_rows_by_unit(self.row_count, self.kept_count, causal)[array.unit]

    def array(self, array: ArrayRecord) -> Any:
        """All rows of one array, mapped anew, as `map_array` gives them; nothing is read yet."""
        return map_array(self.path / STATES, array, self.record.rows(array))


def read_samples(path: Path) -> tuple[pa.Table, int]:
    """The table of a samples.arrow, mapped, and its version. Raises CacheError: not readable, or not of this format."""
    try:
        table = pa.ipc.open_file(pa.memory_map(os.fsencode(path))).read_all()
        table.validate()  # or a length that is damaged would be read beyond the map's end; costs microseconds
    except (OSError, pa.ArrowException) as error:
        raise CacheError(f"cannot read {path}: {error}; {redo(path.parent)}") from error
    versions = [v for v, schema in SAMPLES_SCHEMAS.items() if table.schema.equals(schema, check_metadata=True)]
    if not versions:
        raise CacheError(
            f"{path} is not of the format that this stillroom reads; use the one that wrote it, or extract again"
        )
    for name in table.column_names:
        column = table.column(name)
        if column.num_chunks != 1 or any(part.null_count for part in _parts(column.chunk(0))):
            raise CacheError(f"{path}: column {name} lacks a value, or is in pieces; {redo(path.parent)}")
    return table, versions[0]


def _parts(column: pa.Array) -> Iterator[pa.Array]:
    """A column and, of lists and structures, what they hold."""
    yield column
    if pa.types.is_struct(column.type):
        for place in range(column.type.num_fields):
            yield column.field(place)
    if pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type):
        yield from _parts(column.values)

"""Random next tokens of every token, weighted so that sums over them are unbiased (arXiv 2503.16870)."""

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from schemas.bounds import Entries, Seed, Temperature
from schemas.cache.arrays import ArrayRecord
from schemas.cache.kinds.next_token import NextToken, SparseRecord
from schemas.cache.packed_draws import pack_draws, row_bytes, unpack_draws
from schemas.cache.ragged import LONGEST, RaggedRows
from schemas.cache.teacher import TeacherRecord
from schemas.errors import ConfigError
from schemas.strict import Strict


class SampledConfig(Strict):
    """Random next tokens of every token, weighted so that sums over them are unbiased (arXiv 2503.16870)."""

    draws: Entries = 50
    """With replacement; about 0.8 bytes each, at every token."""
    temperature: Temperature = 1.0
    """p is softmax(z / temperature)."""
    proposal: Annotated[float, Field(ge=0, le=10)] = 1.0
    """They are drawn from q ~ p^proposal and weigh p / q; below 1, q is flatter. Where it is not 1, weights are stored,
    and a draw takes about 2 bytes."""
    seed: Seed = 0
    """A sample's draws follow from this and its id alone."""


class Sampled(NextToken[SampledConfig]):
    """Plain: [N, n] ids, with repeats, and [N, n] weights, each of one draw.

    Packed: one row of bytes for both. Unpacked, ids are distinct, and a weight is that of all draws of its id.
    """

    name = "sampled"
    order = 4
    parts = ("draws",)
    former = ("ids", "weights")
    field = (SampledConfig | None, Field(None, description="Sparse teacher logits; null for none."))

    def make_record(self, settings: SampledConfig, teacher: TeacherRecord) -> SparseRecord:
        """The settings, under the names of cache.json."""
        return SparseRecord(
            temperature=settings.temperature, entries=settings.draws, proposal=settings.proposal, seed=settings.seed
        )

    def packed_arrays(self, record: SparseRecord, teacher: TeacherRecord) -> list[ArrayRecord]:
        """Ragged rows; `dtype` says whether they hold weights. Raises ConfigError for rows that would be too long."""
        draws, weighted = record.entries, _are_weighted(record)
        if (longest := row_bytes(draws, draws, teacher.vocab_size, weighted)) > LONGEST:
            raise ConfigError(
                f"states.sampled: {draws:,} draws may take {longest:,} bytes at one token, and a row holds "
                f"{LONGEST:,}; ask for fewer"
            )
        return [_draws(record, teacher.num_layers)]

    def are_packed(self, record: SparseRecord, arrays: Sequence[ArrayRecord]) -> bool:
        """The one array."""
        return len(arrays) == 1 and arrays[0] == _draws(record, arrays[0].layer)

    def pack(
        self, ids_Nn: np.ndarray, values_Nm: np.ndarray, record: SparseRecord, teacher: TeacherRecord
    ) -> Sequence[RaggedRows]:
        """See `NextToken.pack`."""
        return [pack_draws(ids_Nn, teacher.vocab_size, values_Nm if _are_weighted(record) else None)]

    def unpack_rows(self, *values: Any, record: SparseRecord, teacher: TeacherRecord) -> tuple[np.ndarray, np.ndarray]:
        """Distinct ids [N, U], ascending, and their weights [N, U]; both 0 beyond a row's own."""
        (rows,) = values
        return unpack_draws(rows, record.entries, teacher.vocab_size, _are_weighted(record))

    def are_distributions(self, ids_Nn: np.ndarray, values_Nm: np.ndarray) -> np.ndarray:
        """[N] bool: every weight is a number, and not negative. Their sum is 1 in expectation alone."""
        return np.asarray(((values_Nm >= 0) & np.isfinite(values_Nm)).all(axis=1))


def _are_weighted(record: SparseRecord) -> bool:
    """Returns whether p / q is anything but 1."""
    return record.proposal != 1


def _draws(record: SparseRecord, layer: int) -> ArrayRecord:
    dtype: Any = "float16" if _are_weighted(record) else "uint8"
    return ArrayRecord(kind="sampled/draws", layer=layer, width=record.entries, dtype=dtype, encoding="draws")


KIND = Sampled()

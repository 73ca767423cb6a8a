"""Parts of the kinds that keep the teacher's next-token distribution, cut down to a few entries per token.

Each is made as two arrays of plain numbers: which tokens, and what is known of each. It is stored packed, and unpacked
into such numbers again when it is read. Caches of format 1 hold the plain numbers themselves.

Shapes: N rows, n entries, m values: one per entry, and those of a tail.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from pydantic import Field

from schemas.cache.arrays import ArrayRecord, StateKind, StoredStates
from schemas.cache.dtypes import Dtype
from schemas.cache.encoding_cost import EncodingCost
from schemas.cache.ragged import RaggedRows
from schemas.cache.teacher import TeacherRecord
from schemas.errors import CacheError, ConfigError
from schemas.strict import Strict

Settings = TypeVar("Settings", bound=Strict)
NO_TAIL = -1e4  # the logarithm of a tail that has no token; its exponential is 0 in any dtype
TOLERANCE = 1e-4  # of a sum of float32 probabilities
ROWS_AT_ONCE = 8192  # unpacked, for a proof


class SparseRecord(Strict):
    """How a next-token distribution was cut down: p = softmax(z / temperature), of the teacher's logits z.

    top_k: the likeliest tokens; the probability of all others together is kept beside theirs.
    sampled: draws with replacement from q ~ p^proposal, each of weight p / q / entries.
    """

    temperature: Annotated[float, Field(gt=0)]
    """Of p; a loss must soften the student alike."""
    entries: Annotated[int, Field(ge=1)]
    """k, or the number of draws."""
    proposal: float | None = None
    """Exponent of the proposal q; null for top_k."""
    seed: int | None = None
    """Of the draws; null for top_k."""


class NextToken(StateKind[Settings]):
    """Plain, as parts called `former`: ids [N, n] int32 and values [N, m] float32, whatever `states.dtype`.

    Packed: the arrays of `parts`, which are never two.
    """

    record = SparseRecord
    follows_subset = True
    group = "sparse"
    tail = 0  # columns of the values beyond the entries

    def require_possible(self, settings: Settings, teacher: Literal["causal", "encoder"]) -> None:
        """Raises ValueError for an encoder, which predicts no next token."""
        if teacher == "encoder":
            raise ValueError(f"states.{self.name} is a next-token distribution, which no encoder has")

    def list_arrays(self, settings: Settings, dtype: Dtype, teacher: TeacherRecord) -> list[ArrayRecord]:
        """The packed arrays. Raises ConfigError for more entries than tokens."""
        record = self.make_record(settings, teacher)
        if record.entries > teacher.vocab_size:
            raise ConfigError(
                f"states.{self.name}: {record.entries} entries per token, but the teacher has only "
                f"{teacher.vocab_size} tokens; `top_k: {{k: {teacher.vocab_size}}}` keeps the whole distribution, and "
                "a hidden state less"
            )
        return self.packed_arrays(record, teacher)

    def plain_arrays(self, record: SparseRecord, layer: int) -> list[ArrayRecord]:
        """Ids, and values: what a teacher makes, and what caches of format 1 hold."""
        ids, values = (f"{self.name}/{part}" for part in self.former)
        return [
            ArrayRecord(kind=ids, layer=layer, width=record.entries, dtype="int32"),
            ArrayRecord(kind=values, layer=layer, width=record.entries + self.tail, dtype="float32"),
        ]

    @abstractmethod
    def make_record(self, settings: Settings, teacher: TeacherRecord) -> SparseRecord:
        """Temperature and entries, and what draws depend on."""

    @abstractmethod
    def packed_arrays(self, record: SparseRecord, teacher: TeacherRecord) -> list[ArrayRecord]:
        """The arrays of `parts`. Raises ConfigError for more than can be packed."""

    @abstractmethod
    def pack(
        self, ids_Nn: np.ndarray, values_Nm: np.ndarray, record: SparseRecord, teacher: TeacherRecord
    ) -> Sequence[np.ndarray | RaggedRows]:
        """The packed arrays, in order. Each row's bytes depend on that row alone."""

    def unpack(
        self, values: Sequence[Any], record: SparseRecord, teacher: TeacherRecord
    ) -> tuple[np.ndarray, np.ndarray]:
        """Ids [N, n] int32 and values [N, m] float32, of the same rows of all arrays, plain or packed.

        Raises CacheError for bytes that nothing was packed into.
        """
        if len(values) == len(self.former):
            ids_Nn, values_Nm = values
            return ids_Nn, values_Nm
        return self.unpack_rows(*values, record=record, teacher=teacher)

    def find_loss(
        self, plain: Sequence[np.ndarray], packed: Sequence[Any], record: SparseRecord, teacher: TeacherRecord
    ) -> EncodingCost | None:
        """What packing lost of at least one row, for the first of `parts`; None if that is nothing to speak of."""
        return None

    @abstractmethod
    def unpack_rows(self, *values: Any, record: SparseRecord, teacher: TeacherRecord) -> tuple[np.ndarray, np.ndarray]:
        """`unpack` of packed arrays."""

    def require_consistent(self, record: SparseRecord, arrays: Sequence[ArrayRecord]) -> None:
        """Raises ValueError unless all arrays of one form are there, once, as wide as the record says."""
        found = [(array.kind, array.width, array.dtype) for array in arrays]
        plain = [(array.kind, array.width, array.dtype) for array in self.plain_arrays(record, 0)]
        if found != plain and not self.are_packed(record, arrays):
            held = ", ".join(f"{kind} of {width} {dtype}" for kind, width, dtype in found) or "none"
            raise ValueError(
                f"the arrays of {self.name} ({held}) are not those of {record.entries} entries; extract again"
            )

    @abstractmethod
    def are_packed(self, record: SparseRecord, arrays: Sequence[ArrayRecord]) -> bool:
        """Returns whether these are the packed arrays, as far as it can be told without the vocabulary."""

    def find_fault(self, stored: StoredStates) -> str | None:
        """The first row with an id outside the vocabulary, or of which `are_distributions` is false."""
        for start, rows in stored.blocks(ROWS_AT_ONCE):
            try:
                ids_Nn, values_Nm = self.unpack(rows, stored.record, stored.teacher)
            except CacheError as error:
                return f"rows {start} to {start + len(rows[0]) - 1}: {error}"
            good_N = self.are_as_packed(rows)
            good_N &= ((ids_Nn >= 0) & (ids_Nn < stored.teacher.vocab_size)).all(axis=1)
            good_N &= self.are_distributions(ids_Nn, values_Nm)
            if not good_N.all():
                return f"row {start + int(np.flatnonzero(~good_N)[0])} is not a distribution"
        return None

    def are_as_packed(self, values: Sequence[Any]) -> np.ndarray:
        """[N] bool, of rows of all arrays: whether `pack` could have given them, as far as `unpack` does not ask."""
        return np.ones(len(values[0]), bool)

    @abstractmethod
    def are_distributions(self, ids_Nn: np.ndarray, values_Nm: np.ndarray) -> np.ndarray:
        """[N] bool, of ids that lie within the vocabulary."""

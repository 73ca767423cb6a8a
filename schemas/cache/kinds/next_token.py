"""Parts of the kinds that keep the teacher's next-token distribution, cut down to a few entries per token."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated, Literal, TypeVar

import numpy as np
from pydantic import Field

from schemas.cache.arrays import ArrayRecord, StateKind, StoredStates
from schemas.cache.dtypes import Dtype
from schemas.cache.teacher import TeacherRecord
from schemas.errors import ConfigError
from schemas.strict import Strict

Settings = TypeVar("Settings", bound=Strict)
NO_TAIL = -1e4  # the logarithm of a tail that has no token; its exponential is 0 in any dtype
TOLERANCE = 1e-4  # of a sum of float32 probabilities


class SparseRecord(Strict):
    """How a next-token distribution was cut down: p = softmax(z / temperature), of the teacher's logits z.

    top_k: the likeliest tokens; a last column of their log-probabilities is that of all others together.
    sampled: draws with replacement from q ~ p^proposal, each of weight p / q / entries.
    """

    temperature: Annotated[float, Field(gt=0)]
    """Of p; a loss must soften the student alike."""
    entries: Annotated[int, Field(ge=1)]
    """k, or the number of draws: columns, except for top_k's tail."""
    proposal: float | None = None
    """Exponent of the proposal q; null for top_k."""
    seed: int | None = None
    """Of the draws; null for top_k."""


class NextToken(StateKind[Settings]):
    """Two arrays: which tokens, int32, and what is known of each, float32 whatever `states.dtype`."""

    record = SparseRecord
    follows_subset = True
    group = "sparse"
    tail = 0  # columns of the second array beyond the entries

    def require_possible(self, settings: Settings, teacher: Literal["causal", "encoder"]) -> None:
        """Raises ValueError for an encoder, which predicts no next token."""
        if teacher == "encoder":
            raise ValueError(f"states.{self.name} is a next-token distribution, which no encoder has")

    def list_arrays(self, settings: Settings, dtype: Dtype, teacher: TeacherRecord) -> list[ArrayRecord]:
        """[tokens, n] ids and [tokens, n + tail] values. Raises ConfigError for more entries than tokens."""
        entries, ids, values = self.make_record(settings, teacher).entries, *self.array_kinds
        if entries > teacher.vocab_size:
            raise ConfigError(
                f"states.{self.name}: {entries} entries per token, but the teacher has only {teacher.vocab_size} "
                f"tokens; `top_k: {{k: {teacher.vocab_size}}}` keeps the whole distribution, and a hidden state less"
            )
        layer = teacher.num_layers
        return [
            ArrayRecord(kind=ids, layer=layer, width=entries, dtype="int32"),
            ArrayRecord(kind=values, layer=layer, width=entries + self.tail, dtype="float32"),
        ]

    @abstractmethod
    def make_record(self, settings: Settings, teacher: TeacherRecord) -> SparseRecord:
        """Temperature and entries, and what draws depend on."""

    def require_consistent(self, record: SparseRecord, arrays: Sequence[ArrayRecord]) -> None:
        """Raises ValueError unless both arrays are there, once, as wide as the record says."""
        ids, values = self.array_kinds
        for kind, width in ((ids, record.entries), (values, record.entries + self.tail)):
            found = [array.width for array in arrays if array.kind == kind]
            if found != [width]:
                raise ValueError(f"{kind} should be one array of {width} columns, not {found}; extract again")

    def find_fault(self, stored: StoredStates) -> str | None:
        """The first row with an id outside the vocabulary, or of which `are_distributions` is false."""
        for start, (ids_Nn, values_Nn) in stored.blocks():
            good_N = ((ids_Nn >= 0) & (ids_Nn < stored.teacher.vocab_size)).all(axis=1)
            good_N &= self.are_distributions(ids_Nn, values_Nn)
            if not good_N.all():
                return f"row {start + int(np.flatnonzero(~good_N)[0])} is not a distribution"
        return None

    @abstractmethod
    def are_distributions(self, ids_Nn: np.ndarray, values_Nn: np.ndarray) -> np.ndarray:
        """[N] bool, of ids that lie within the vocabulary."""

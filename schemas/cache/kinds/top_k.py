"""The likeliest next tokens at every token; what is left of 1 is known as a sum."""

import numpy as np
from pydantic import Field

from schemas.bounds import Entries, Temperature
from schemas.cache.kinds.next_token import TOLERANCE, NextToken, SparseRecord
from schemas.cache.teacher import TeacherRecord
from schemas.strict import Strict


class TopKConfig(Strict):
    """The likeliest next tokens at every token; what is left of 1 is known as a sum."""

    k: Entries = 64
    """How many; 8 bytes each, at every token."""
    temperature: Temperature = 1.0
    """They are of softmax(z / temperature)."""


class TopK(NextToken[TopKConfig]):
    """[tokens, k] ids, likeliest first, and [tokens, k + 1] log-probabilities, the last of all others together."""

    name = "top_k"
    order = 3
    parts = ("ids", "logprobs")
    tail = 1
    field = (TopKConfig | None, Field(None, description="Sparse teacher logits; null for none."))

    def make_record(self, settings: TopKConfig, teacher: TeacherRecord) -> SparseRecord:
        """The settings, under the names of cache.json."""
        return SparseRecord(temperature=settings.temperature, entries=settings.k)

    def are_distributions(self, ids_Nn: np.ndarray, values_Nn: np.ndarray) -> np.ndarray:
        """[N] bool: no id twice, and probabilities that are 1 in sum, tail included, to TOLERANCE."""
        once_N = (np.diff(np.sort(ids_Nn)) > 0).all(axis=1)
        sums_N = np.exp(values_Nn, dtype=np.float64).sum(axis=1)
        return np.asarray(once_N & (np.abs(sums_N - 1) <= TOLERANCE))


KIND = TopK()

"""Random next tokens of every token, weighted so that sums over them are unbiased (arXiv 2503.16870)."""

from typing import Annotated

import numpy as np
from pydantic import Field

from schemas.bounds import Entries, Seed, Temperature
from schemas.cache.kinds.next_token import NextToken, SparseRecord
from schemas.cache.teacher import TeacherRecord
from schemas.strict import Strict


class SampledConfig(Strict):
    """Random next tokens of every token, weighted so that sums over them are unbiased (arXiv 2503.16870)."""

    draws: Entries = 50
    """With replacement; 8 bytes each, at every token."""
    temperature: Temperature = 1.0
    """p is softmax(z / temperature)."""
    proposal: Annotated[float, Field(ge=0, le=10)] = 1.0
    """They are drawn from q ~ p^proposal and weigh p / q; below 1, q is flatter."""
    seed: Seed = 0
    """A sample's draws follow from this and its id alone."""


class Sampled(NextToken[SampledConfig]):
    """[tokens, n] ids, with repeats, and [tokens, n] weights."""

    name = "sampled"
    order = 4
    parts = ("ids", "weights")
    field = (SampledConfig | None, Field(None, description="Sparse teacher logits; null for none."))

    def make_record(self, settings: SampledConfig, teacher: TeacherRecord) -> SparseRecord:
        """The settings, under the names of cache.json."""
        return SparseRecord(
            temperature=settings.temperature, entries=settings.draws, proposal=settings.proposal, seed=settings.seed
        )

    def are_distributions(self, ids_Nn: np.ndarray, values_Nn: np.ndarray) -> np.ndarray:
        """[N] bool: no weight is negative. Their sum is 1 in expectation alone."""
        return np.asarray((values_Nn >= 0).all(axis=1))


KIND = Sampled()

"""Attention maps averaged over heads, as `schemas.models.attention_readings` reads them."""

from collections.abc import Mapping

from torch import Tensor

from pipeline.teacher.maker import BatchStates, StatesMaker
from schemas.cache.arrays import ArrayRecord
from schemas.models.attention_readings import Reading


class MeanAttentionMaker(StatesMaker):
    """Rows of pairs of real tokens."""

    name = "attention_mean"

    @property
    def attention_layers(self) -> Mapping[Reading, frozenset[int]]:
        """The layers of its arrays."""
        return {"mean": frozenset(array.layer for array in self.arrays)}

    def make(self, array: ArrayRecord, states: BatchStates) -> Tensor:
        """[P], float32."""
        return states.attention["mean", array.layer]


MAKER = MeanAttentionMaker

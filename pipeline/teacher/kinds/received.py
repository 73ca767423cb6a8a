"""Received masses, as `schemas.models.attention_readings` reads them."""

from collections.abc import Mapping

from torch import Tensor

from pipeline.teacher.maker import BatchStates, StatesMaker
from schemas.cache.arrays import ArrayRecord
from schemas.models.attention_readings import Reading


class ReceivedMassMaker(StatesMaker):
    """Rows of real tokens."""

    name = "received"

    @property
    def attention_layers(self) -> Mapping[Reading, frozenset[int]]:
        """The layers of its arrays."""
        return {"received": frozenset(array.layer for array in self.arrays)}

    def make(self, array: ArrayRecord, states: BatchStates) -> Tensor:
        """[N], float32: what the real tokens receive at the array's layer; 1 in sum over a sample."""
        return states.real(states.attention["received", array.layer])


MAKER = ReceivedMassMaker

"""Hidden states, as they come."""

from torch import Tensor

from pipeline.teacher.maker import BatchStates, StatesMaker
from schemas.cache.arrays import ArrayRecord


class HiddenStatesMaker(StatesMaker):
    """Rows of real tokens."""

    name = "hidden"

    @property
    def hidden_layers(self) -> frozenset[int]:
        """The layers of its arrays."""
        return frozenset(array.layer for array in self.arrays)

    def make(self, array: ArrayRecord, states: BatchStates) -> Tensor:
        """[N, d]: the states of the real tokens at the array's layer, in the compute dtype."""
        return states.real(states.hidden[array.layer])


MAKER = HiddenStatesMaker

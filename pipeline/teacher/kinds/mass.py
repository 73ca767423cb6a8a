"""Token masses, as `schemas.models.token_mass` collects them."""

from torch import Tensor

from pipeline.teacher.maker import BatchStates, StatesMaker
from schemas.cache.arrays import ArrayRecord


class TokenMassMaker(StatesMaker):
    """Rows of real tokens."""

    name = "mass"

    @property
    def mass_layers(self) -> frozenset[int]:
        """The layers of its arrays."""
        return frozenset(array.layer for array in self.arrays)

    def make(self, array: ArrayRecord, states: BatchStates) -> Tensor:
        """[N], float32: the masses of the real tokens at the array's layer; 1 in sum over a sample."""
        return states.real(states.mass[array.layer])


MAKER = TokenMassMaker

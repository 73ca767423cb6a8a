"""How a loss reads entropies."""

from dataclasses import dataclass

from torch import Tensor

from schemas.cache.readable import ReadableCache
from trainer.data.request import BatchRequest, Drawn


@dataclass(frozen=True)
class TeacherEntropy(BatchRequest[Tensor]):
    """[B, T], in nats; 0 on padding."""

    def require(self, cache: ReadableCache) -> None:
        cache.arrays_of("entropy")

    def collate(self, drawn: Drawn) -> Tensor:
        (array,) = drawn.cache.arrays_of("entropy")
        return drawn.states(array)

"""Sentence embeddings, pooled from the hidden states of one layer."""

from torch import Tensor

from pipeline.teacher.maker import BatchStates, StatesMaker
from schemas.cache.arrays import ArrayRecord
from schemas.models.sentence_pooling import embed


class SentenceEmbeddingsMaker(StatesMaker):
    """Rows of samples."""

    name = "pooled"

    @property
    def hidden_layers(self) -> frozenset[int]:
        """The layer that is pooled."""
        return frozenset(array.layer for array in self.arrays)

    def make(self, array: ArrayRecord, states: BatchStates) -> Tensor:
        """[B, d]: one embedding per sample, pooled and scaled as the record says."""
        return embed(states.hidden[array.layer], states.mask_BT, self.record.pooling, self.record.normalise)


MAKER = SentenceEmbeddingsMaker

"""Attention maps of every head, as `schemas.models.attention_readings` reads them."""

from collections.abc import Mapping

from torch import Tensor

from pipeline.teacher.maker import BatchStates, StatesMaker
from schemas.cache.arrays import ArrayRecord
from schemas.errors import ModelError
from schemas.models.attention_readings import Reading


class FullAttentionMaker(StatesMaker):
    """Rows of pairs of real tokens, a column per head."""

    name = "attention"

    @property
    def attention_layers(self) -> Mapping[Reading, frozenset[int]]:
        """The layers of its arrays."""
        return {"heads": frozenset(array.layer for array in self.arrays)}

    def make(self, array: ArrayRecord, states: BatchStates) -> Tensor:
        """[P, H], float32. Raises ModelError for a layer that has another number of heads."""
        weights_PH = states.attention["heads", array.layer]
        if weights_PH.shape[1] != array.width:
            raise ModelError(
                f"layer {array.layer} of the teacher attends with {weights_PH.shape[1]} heads, and its config says "
                f"{array.width}; choose another layer, or states.attention_mean"
            )
        return weights_PH


MAKER = FullAttentionMaker

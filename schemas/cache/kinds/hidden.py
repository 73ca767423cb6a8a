"""Hidden states of chosen layers: one row per token."""

from pydantic import Field

from schemas.cache.arrays import ArrayRecord, StateKind
from schemas.cache.dtypes import Dtype
from schemas.cache.teacher import TeacherRecord
from schemas.layers import LayerSelection, resolve_layers


class HiddenStates(StateKind[LayerSelection]):
    """[tokens, d] of each layer, in `states.dtype`."""

    name = "hidden"
    order = 0
    follows_subset = True
    field = (
        LayerSelection,
        Field(["last"], description="Layers: indices, negative indices, 'last', or {top: k}."),
    )

    def list_arrays(self, settings: LayerSelection, dtype: Dtype, teacher: TeacherRecord) -> list[ArrayRecord]:
        """[tokens, d_T] for each layer, ascending. Raises ConfigError for a layer that does not exist."""
        layers = resolve_layers(settings, teacher.num_layers, "states.hidden")
        return [ArrayRecord(kind=self.name, layer=layer, width=teacher.hidden_size, dtype=dtype) for layer in layers]


KIND = HiddenStates()

"""Hidden states of chosen layers: one row per token."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import Field

from schemas.cache.arrays import ArrayRecord, StateKind, StoredStates
from schemas.cache.dtypes import Dtype
from schemas.cache.encoding import EncodingRecord, resolve_encoding
from schemas.cache.ragged import RaggedArray
from schemas.cache.teacher import TeacherRecord
from schemas.layers import LayerSelection, resolve_layers
from schemas.strict import Strict


@dataclass(frozen=True)
class HiddenSettings:
    """Which layers, and how they are encoded, None if they are not."""

    layers: LayerSelection
    encoding: EncodingRecord | None


class HiddenStates(StateKind[HiddenSettings]):
    """[tokens, d] of each layer, in `states.dtype` or encoded."""

    name = "hidden"
    order = 0
    follows_subset = True
    record = EncodingRecord
    field = (
        LayerSelection,
        Field(["last"], description="Layers: indices, negative indices, 'last', or {top: k}."),
    )

    def settings(self, states: Strict) -> HiddenSettings:
        """Layers and encoding. Raises ValueError for a dtype that does not go with the encoding."""
        section: Any = states
        encoding = resolve_encoding(section.encoding, section.dtype) if section.hidden else None
        return HiddenSettings(section.hidden, encoding)

    def list_arrays(self, settings: HiddenSettings, dtype: Dtype, teacher: TeacherRecord) -> list[ArrayRecord]:
        """[tokens, d_T] for each layer, ascending. Raises ConfigError for a layer that does not exist."""
        layers = resolve_layers(settings.layers, teacher.num_layers, "states.hidden")
        encoding = "raw" if settings.encoding is None else settings.encoding.codec
        return [
            ArrayRecord(kind=self.name, layer=layer, width=teacher.hidden_size, dtype=dtype, encoding=encoding)
            for layer in layers
        ]

    def make_record(self, settings: HiddenSettings, teacher: TeacherRecord) -> EncodingRecord | None:
        """How they are encoded."""
        return settings.encoding

    def require_consistent(self, record: EncodingRecord, arrays: Sequence[ArrayRecord]) -> None:
        """Raises ValueError unless all arrays are of the record's codec."""
        if wrong := [array.path for array in arrays if array.encoding != record.codec]:
            raise ValueError(f"{', '.join(wrong)} should be encoded by {record.codec}; extract again")

    def find_fault(self, stored: StoredStates) -> str | None:
        """Says which row of differing sizes is empty, or longer than a state in bfloat16."""
        if not isinstance(stored.values[0], RaggedArray):
            return None
        most = 2 * stored.teacher.hidden_size
        for start, (rows,) in stored.blocks():
            wrong = np.flatnonzero((rows.sizes == 0) | (rows.sizes > most))
            if len(wrong):
                return f"row {start + wrong[0]} has {rows.sizes[wrong[0]]} bytes, not 1 to {most}"
        return None


KIND = HiddenStates()

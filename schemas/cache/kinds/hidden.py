"""Hidden states of chosen layers: one row per token."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import Field

from schemas.cache.arrays import ArrayRecord, StateKind, StoredStates
from schemas.cache.dtypes import Dtype
from schemas.cache.encoding import EncodingRecord, resolve_encoding
from schemas.cache.ragged import LONGEST, RaggedArray
from schemas.cache.teacher import TeacherRecord
from schemas.errors import ConfigError
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
        """Layers and encoding. Raises ValueError for an encoding of nothing, or of states of another dtype."""
        section: Any = states
        if section.hidden:
            return HiddenSettings(section.hidden, resolve_encoding(section.encoding, section.dtype))
        if section.encoding is not None:
            raise ValueError("encoding is of hidden states, and none are kept; leave it out, or name layers in hidden")
        return HiddenSettings(section.hidden, None)

    def list_arrays(self, settings: HiddenSettings, dtype: Dtype, teacher: TeacherRecord) -> list[ArrayRecord]:
        """[tokens, d_T] for each layer, ascending. Raises ConfigError for a layer that does not exist, or too wide a
        state."""
        layers = resolve_layers(settings.layers, teacher.num_layers, "states.hidden")
        encoding = "raw" if settings.encoding is None else settings.encoding.codec
        if encoding == "rvq" and 2 * teacher.hidden_size > LONGEST:
            raise ConfigError(
                f"states.encoding: a state of {teacher.hidden_size:,} numbers has more bytes than the {LONGEST:,} of a "
                "row; set it to exact"
            )
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

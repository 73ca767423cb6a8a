"""Makers of next-token distributions: plain numbers on the device, packed on the host when a unit is written."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.teacher.maker import LogitsMaker
from schemas.cache.arrays import KINDS, ArrayRecord
from schemas.cache.encoding_cost import EncodingCost
from schemas.cache.kinds.next_token import NextToken
from schemas.cache.states import Values
from schemas.cache.teacher import TeacherRecord


class PackedMaker(LogitsMaker):
    """Makes ids and values; its kind packs them."""

    @property
    def makes(self) -> Sequence[ArrayRecord]:
        """Ids [N, n], int32, and values, float32."""
        return self._kind.plain_arrays(self.record, self.arrays[0].layer)

    def pack(
        self, made: Mapping[str, np.ndarray], teacher: TeacherRecord
    ) -> tuple[Mapping[str, Values], Mapping[str, EncodingCost]]:
        """The kind's own arrays, and what their packing lost. Takes 5 to 10 microseconds per token and kind.

        Caches of format 1 hold what it makes: nothing is packed for them.
        """
        if [array.kind for array in self.arrays] == [array.kind for array in self.makes]:
            return super().pack(made, teacher)
        ids_Nn, values_Nm = plain = [made[array.path] for array in self.makes]
        packed = self._kind.pack(ids_Nn, values_Nm, self.record, teacher)
        loss = self._kind.find_loss(plain, packed, self.record, teacher) if len(ids_Nn) else None
        arrays = {array.path: values for array, values in zip(self.arrays, packed, strict=True)}
        return arrays, {} if loss is None else {self.arrays[0].path: loss}

    @property
    def _kind(self) -> NextToken[Any]:
        kind = KINDS[self.name]
        assert isinstance(kind, NextToken)
        return kind

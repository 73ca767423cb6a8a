"""How entropies are asked for, stored and checked."""

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from schemas.cache.arrays import ArrayRecord, StateKind, StoredStates
from schemas.cache.dtypes import Dtype
from schemas.cache.teacher import TeacherRecord
from schemas.strict import Strict


class EntropyConfig(Strict):
    """The entropy of the next token."""

    temperature: Annotated[float, Field(gt=0)] = 1.0
    """It is of softmax(z / temperature)."""


class EntropyRecord(Strict):
    """How it was made."""

    temperature: float


class Entropy(StateKind[EntropyConfig]):
    """[tokens], in nats."""

    name = "entropy"
    record = EntropyRecord
    field = (EntropyConfig | None, Field(None, description="Entropies of the next token; null for none."))

    def require_possible(self, settings: EntropyConfig, teacher: Literal["causal", "encoder"]) -> None:
        if teacher == "encoder":
            raise ValueError("states.entropy: an encoder predicts no token")

    def list_arrays(self, settings: EntropyConfig, dtype: Dtype, teacher: TeacherRecord) -> list[ArrayRecord]:
        return [ArrayRecord(kind="entropy", layer=teacher.num_layers, width=None, dtype="float32", encoding="coarse")]

    def make_record(self, settings: EntropyConfig, teacher: TeacherRecord) -> EntropyRecord:
        return EntropyRecord(temperature=settings.temperature)

    def find_fault(self, stored: StoredStates) -> str | None:
        most = np.log(stored.teacher.vocab_size) * 1.001
        for start, (entropy_N,) in stored.blocks():
            for row in np.flatnonzero((entropy_N < 0) | (entropy_N > most)):
                return f"row {start + row} is an entropy of {entropy_N[row]:.3g} nats"
        return None


KIND = Entropy()

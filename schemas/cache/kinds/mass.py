"""Token masses of chosen layers: how much attention the end of a text pays to each of its tokens (SRA, section 3)."""

import numpy as np
from pydantic import Field

from schemas.cache.arrays import ArrayRecord, StateKind, StoredStates
from schemas.cache.dtypes import Dtype
from schemas.cache.teacher import TeacherRecord
from schemas.errors import ConfigError
from schemas.layers import LayerSelection, resolve_layers

TOLERANCE = 1e-4  # of a sum of float32 masses


class TokenMass(StateKind[LayerSelection]):
    """[tokens] of each layer, summing to 1 over a sample.

    In float32 whatever `states.dtype`: one number per token costs nothing, and a sum of bfloat16 masses is not 1.
    """

    name = "mass"
    order = 1
    of_attention = True
    field = (
        LayerSelection,
        Field(
            ["last"],
            description="Layers whose token masses are kept (SRA pools a layer with its own masses).",
        ),
    )

    def list_arrays(self, settings: LayerSelection, dtype: Dtype, teacher: TeacherRecord) -> list[ArrayRecord]:
        """[tokens] for each layer, ascending. Raises ConfigError for layer 0 or one that does not exist."""
        layers = attending_layers(settings, teacher, f"states.{self.name}")
        return [ArrayRecord(kind=self.name, layer=layer, width=None, dtype="float32") for layer in layers]

    def find_fault(self, stored: StoredStates) -> str | None:
        """A negative mass, or a sample whose masses differ from 1 in sum by more than TOLERANCE."""
        (mass_N,) = stored.values
        for start, (block,) in stored.blocks():
            if (block < 0).any():
                return f"row {start + int(np.flatnonzero(block < 0)[0])} is a negative mass"
        counts = stored.row_counts
        samples = np.flatnonzero(counts)
        starts = (np.cumsum(counts) - counts)[samples]
        sums = np.add.reduceat(mass_N, starts, dtype=np.float64) if len(starts) else np.ones(0)
        for wrong in np.flatnonzero(~(np.abs(sums - 1) <= TOLERANCE)):
            return f"the masses of sample {samples[wrong]} of the shard sum to {sums[wrong]:.6g}, not to 1"
        return None


def attending_layers(selection: LayerSelection, teacher: TeacherRecord, field: str) -> tuple[int, ...]:
    """The chosen layers, ascending. Raises ConfigError for layer 0 or one that does not exist."""
    layers = resolve_layers(selection, teacher.num_layers, field)
    if 0 in layers:
        raise ConfigError(f"{field}: layer 0 is the embeddings, which attend to nothing; masses begin at layer 1")
    return layers


KIND = TokenMass()

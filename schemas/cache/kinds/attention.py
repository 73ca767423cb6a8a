"""Attention maps of chosen layers: how much of each token's attention goes to every token that it may attend to.

Shapes: T tokens of a sample, P pairs of them, H heads.
"""

import numpy as np
from pydantic import Field

from schemas.cache.arrays import ArrayRecord, StateKind, StoredStates
from schemas.cache.dtypes import Dtype, widened
from schemas.cache.kinds.mass import attending_layers
from schemas.cache.row_units import count_queries, query_starts
from schemas.cache.teacher import TeacherRecord
from schemas.errors import ConfigError
from schemas.layers import LayerSelection
from schemas.strict import Strict

TOLERANCE = 1e-4  # of a sum of float32 weights
# What rounding adds to it by the stored type: as a share of the sum, and at every weight.
ROUNDING = {"float32": (0.0, 0.0), "float16": (2.0**-11, 2.0**-25), "uint16": (2.0**-8, 0.0)}


class MapsConfig(Strict):
    """Attention maps. Their price grows with the square of a text's length; `stillroom plan` shows it."""

    layers: LayerSelection = ["last"]
    """Layers: indices from 1, negative indices, 'last', or {top: k}."""
    dtype: Dtype = "float16"
    """Dtype on disk. float16 is off by up to 1/2048 of a weight (by 3e-8 where it is below 6e-5), bfloat16 by 1/256."""


class FullAttention(StateKind[MapsConfig]):
    """[P, H] of each layer: a row per pair of tokens, of the one that attends and the one it attends to.

    See `schemas.cache.row_units` for the order of pairs. In a causal model half of the square is kept.
    """

    name = "attention"
    order = 7
    of_attention = True
    rows = "pairs"
    field = (MapsConfig | None, Field(None, description="Attention maps of every head; null for none."))

    def list_arrays(self, settings: MapsConfig, dtype: Dtype, teacher: TeacherRecord) -> list[ArrayRecord]:
        """A row per pair for each layer, ascending. Raises ConfigError for layer 0 or one that does not exist."""
        layers, width = attending_layers(settings.layers, teacher, f"states.{self.name}"), self.width(teacher)
        return [ArrayRecord(kind=self.name, layer=layer, width=width, dtype=settings.dtype) for layer in layers]

    def width(self, teacher: TeacherRecord) -> int | None:
        """H. Raises ConfigError for a teacher whose config does not say it."""
        if teacher.heads is None:
            raise ConfigError(
                f"states.{self.name}: the teacher's config.json does not say how many heads its attention has "
                "(num_attention_heads); ask for attention_mean instead"
            )
        return teacher.heads

    def find_fault(self, stored: StoredStates) -> str | None:
        """A negative weight, or a token that pays more than all of its attention, or none.

        It may pay less, where the model lets it attend to a sink that is no token (GPT-OSS). Memory is that of one
        sample.
        """
        (values,), causal, first = stored.values, stored.teacher.kind == "causal", 0
        relative, absolute = ROUNDING[values.dtype.name]
        for sample, pairs in enumerate(stored.row_counts.tolist()):
            if not pairs:
                continue
            weights_PH = widened(values[first : first + pairs]).reshape(pairs, -1)
            first += pairs
            if (weights_PH < 0).any():
                row = first - pairs + int(np.flatnonzero((weights_PH < 0).any(axis=1))[0])
                return f"row {row} is a negative weight of attention"
            starts = query_starts(count_queries(pairs, causal), causal)
            sums_TH = np.add.reduceat(weights_PH, starts, axis=0, dtype=np.float64)
            most = 1 + TOLERANCE + relative + absolute * len(starts)
            for token in np.flatnonzero(~((sums_TH > 0) & (sums_TH <= most)).all(axis=1)).tolist():
                worst = sums_TH[token][np.abs(sums_TH[token] - 1).argmax()]
                return f"token {token} of sample {sample} of the shard pays {worst:.6g} of its attention"
        return None


KIND = FullAttention()

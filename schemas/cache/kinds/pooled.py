"""Sentence embeddings: one row per sample, pooled from one layer."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.cache.arrays import ArrayRecord, StateKind
from schemas.cache.dtypes import Dtype
from schemas.cache.teacher import TeacherRecord
from schemas.layers import Layer, resolve_layer
from schemas.strict import Strict

Pooling = Literal["mean", "cls", "last"]


class PooledConfig(Strict):
    """One embedding per sample: what a sentence encoder gives. Alone, it makes a cache without tokens and spans."""

    pooling: Pooling
    """mean of all tokens, the first (cls), or the last; special tokens count, as they do in sentence-transformers.
    Choose what the teacher was trained with."""
    normalise: bool = False
    """Scale every embedding to length 1."""
    layer: Layer = "last"
    """Layer that is pooled: an index, a negative index, or 'last'."""
    dtype: Dtype | None = None
    """Dtype on disk; left out, `states.dtype`."""


class PooledRecord(Strict):
    """How a sample's states became its embedding."""

    pooling: Pooling
    """Over all tokens, of the first, or of the last."""
    normalise: bool
    """It was scaled to length 1."""
    layer: Annotated[int, Field(ge=0)]
    """Index into the model's hidden_states."""


class SentenceEmbeddings(StateKind[PooledConfig]):
    """[samples, d], compressed: by 8 % in float16, and nobody maps one row per sample."""

    name = "pooled"
    order = 2
    rows = "samples"
    record = PooledRecord
    field = (PooledConfig | None, Field(None, description="Sentence embeddings; null for none."))

    def require_possible(self, settings: PooledConfig, teacher: Literal["causal", "encoder"]) -> None:
        """Raises ValueError for `cls` of a causal teacher."""
        if teacher == "causal" and settings.pooling == "cls":
            raise ValueError(
                "states.pooled.pooling: the first token of a causal teacher sees nothing of its text; take last or mean"
            )

    def list_arrays(self, settings: PooledConfig, dtype: Dtype, teacher: TeacherRecord) -> list[ArrayRecord]:
        """One array, [samples, d_T]. Raises ConfigError for a layer that does not exist."""
        layer, width = self.make_record(settings, teacher).layer, teacher.hidden_size
        kept = settings.dtype or dtype
        return [ArrayRecord(kind=self.name, layer=layer, width=width, dtype=kept, encoding="zstd")]

    def make_record(self, settings: PooledConfig, teacher: TeacherRecord) -> PooledRecord:
        """The settings, the layer as its index. Raises ConfigError for one that does not exist."""
        layer = resolve_layer(settings.layer, teacher.num_layers, "states.pooled.layer")
        return PooledRecord(pooling=settings.pooling, normalise=settings.normalise, layer=layer)


KIND = SentenceEmbeddings()

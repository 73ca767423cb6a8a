"""The teacher's cached states as requests. A loss reads all of them in float32, whatever their dtype on disk.

Shapes: B samples, T teacher tokens, n entries of a stored distribution, d_T wide.
"""

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from schemas.cache.arrays import KINDS
from schemas.cache.dtypes import widened
from schemas.cache.kinds.next_token import NextToken
from schemas.cache.readable import ReadableCache
from schemas.cache.row_units import as_square
from schemas.cache.token_rows import KeptRows
from schemas.models.state_decoder import DECODERS
from trainer.data.encoded_states import EncodedStates
from trainer.data.on_device import OnDevice
from trainer.data.request import BatchRequest, Drawn


@dataclass(frozen=True)
class _StatesOfLayer(BatchRequest[Tensor]):
    """The hidden states of one layer, in one form or another."""

    layer: int
    rows: KeptRows = field(default="all", compare=False, repr=False)  # what is read; the answer is the same

    def require(self, cache: ReadableCache) -> None:
        """Raises CacheError if the cache does not keep this layer."""
        cache.array("hidden", self.layer)

    def reads_everywhere(self) -> str | None:
        """The states of its layer, unless it reads rows of targets alone."""
        return f"hidden states of layer {self.layer}" if self.rows == "all" else None


@dataclass(frozen=True)
class TeacherHidden(_StatesOfLayer):
    """[B, T, d_T]; 0 on padding and where a token has no row."""

    def collate(self, drawn: Drawn) -> Any:
        """[B, T, d_T] in the dtype on disk, or `EncodedStates`: either becomes float32 before a loss reads it."""
        array = drawn.cache.array("hidden", self.layer)
        return drawn.encoded_states(array) if array.encoding in DECODERS else drawn.states(array, None)


@dataclass(frozen=True)
class TeacherFinal(_StatesOfLayer):
    """[B, T, K], the coordinates of the final states: times a folded head they give the teacher's logits.

    For a final layer whose decoder has coordinates; see `require_final`.
    """

    def collate(self, drawn: Drawn) -> Any:
        """`EncodedStates`, which are decoded to coordinates before a loss reads them: of one basis."""
        found = drawn.encoded_states(drawn.cache.array("hidden", self.layer))
        assert isinstance(found, EncodedStates)
        return replace(found, as_coordinates=True)


@dataclass(frozen=True)
class TeacherMass(BatchRequest[Tensor]):
    """[B, T], the token masses of one layer: they sum to 1 over a sample, and are 0 on padding."""

    layer: int
    kind: Literal["mass", "received"] = "mass"

    def require(self, cache: ReadableCache) -> None:
        """Raises CacheError if the cache does not keep this layer's masses."""
        cache.array(self.kind, self.layer)

    def collate(self, drawn: Drawn) -> Tensor:
        """[B, T] float32."""
        return drawn.states(drawn.cache.array(self.kind, self.layer))


@dataclass(frozen=True)
class TeacherAttention(BatchRequest[Tensor]):
    """[B, T, T], or [B, H, T, T] of the kind attention: what token t of a sample pays to every other, 1 in sum up to
    rounding; 0 on padding, and in a causal teacher for what follows.

    Of padding T is squared in memory, so batches of attention maps want samples of one length.
    """

    layer: int
    kind: Literal["attention_mean", "attention"] = "attention_mean"

    def require(self, cache: ReadableCache) -> None:
        """Raises CacheError if the cache does not keep this layer's maps."""
        cache.array(self.kind, self.layer)

    def collate(self, drawn: Drawn) -> Tensor:
        """Float32."""
        array = drawn.cache.array(self.kind, self.layer)
        longest = max(len(sample.token_ids) for sample in drawn.samples)
        causal = drawn.cache.manifest.teacher.kind == "causal"
        heads = () if array.width is None else (array.width,)
        maps = np.zeros((len(drawn.positions), longest, longest, *heads), np.float32)
        for row, position in enumerate(drawn.positions):
            square = as_square(widened(drawn.cache.states(position, [array])[0]), causal)
            maps[row, : len(square), : len(square)] = square
        found = torch.from_numpy(maps)
        return found.permute(0, 3, 1, 2) if heads else found


@dataclass(frozen=True)
class SparseLogits(OnDevice):
    """The teacher's stored next-token distribution at every token, n entries each.

    top_k: the k likeliest tokens, without repeats, and the log-probabilities of each and of all others, the tail.
    sampled: the tokens that were drawn, and the weight of each, such that sum_i weight_i f(id_i) estimates E[f]
    unbiased. n is that of the token which has most; where there are fewer, the others weigh 0.
    """

    ids_BTn: Tensor  # long
    values_BTn: Tensor  # float32: log-probabilities, n + 1 of them, or weights


@dataclass(frozen=True)
class SparseTeacher(BatchRequest[SparseLogits]):
    """A stored next-token distribution."""

    kind: str
    rows: KeptRows = field(default="all", compare=False, repr=False)  # what is read; the answer is the same

    def require(self, cache: ReadableCache) -> None:
        """Raises CacheError if the cache does not keep distributions of this kind."""
        cache.arrays_of(self.kind)

    def reads_everywhere(self) -> str | None:
        """Its distributions, unless it reads rows of targets alone."""
        return f"{self.kind} distributions" if self.rows == "all" else None

    def collate(self, drawn: Drawn) -> SparseLogits:
        """Ids [B, T, n], and values [B, T, n], or [B, T, n + 1] with a tail; 0 on padding and where a token has no row.

        Unpacking takes 2 to 5 microseconds per token.
        """
        manifest, kind = drawn.cache.manifest, KINDS[self.kind]
        assert isinstance(kind, NextToken)
        rows = [drawn.rows(array) for array in drawn.cache.arrays_of(self.kind)]
        ids_Nn, values_Nm = kind.unpack(rows, manifest.records[self.kind], manifest.teacher)
        return SparseLogits(drawn.padded(ids_Nn, torch.long), drawn.padded(values_Nm))


@dataclass(frozen=True)
class PooledTeacher(BatchRequest[Tensor]):
    """[B, d_T], the sentence embeddings."""

    def require(self, cache: ReadableCache) -> None:
        """Raises CacheError if the cache does not keep sentence embeddings."""
        cache.arrays_of("pooled")

    def collate(self, drawn: Drawn) -> Tensor:
        """[B, d_T] float32."""
        return drawn.sample_states(drawn.cache.arrays_of("pooled")[0])

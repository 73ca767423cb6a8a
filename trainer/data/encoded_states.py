"""Hidden states as they lie on disk, on their way to the device that decodes them.

They travel at an eighth of what float32 would take, and less: nothing is decoded on the host. How long rows are, and
which are raw, is found where they are read, so that a GPU is never waited for.

Shapes: B samples, T teacher tokens, N rows, R raw ones, d_T wide, K components.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from schemas.cache.arrays import ArrayRecord
from schemas.cache.ragged import RaggedRows
from schemas.models.state_decoder import DECODERS, ArrayKey, FoldableDecoder, StateDecoder
from trainer.data.on_device import OnDevice


@dataclass(frozen=True)
class EncodedStates(OnDevice):
    """The rows of one array that a batch reads, sample after sample."""

    array: ArrayKey
    data: Tensor  # uint8: all rows, one after the other
    size_N: Tensor  # int32: bytes of each
    raw_R: Tensor  # long: which rows are states in bfloat16
    place_N: Tensor  # long: where each stands among the B * T tokens
    shape: tuple[int, int]  # B, T
    as_coordinates: bool = False  # what they are decoded to: coordinates, or states

    def decoded(self, decoders: Mapping[ArrayKey, StateDecoder]) -> Tensor:
        """What the array's decoder makes of them."""
        return self.decode(decoders[self.array])

    def decode(self, decoder: StateDecoder) -> Tensor:
        """[B, T, d_T] states, or [B, T, K] coordinates, in float32; 0 where there is no row."""
        if self.as_coordinates:
            assert isinstance(decoder, FoldableDecoder)
            rows_Nd = decoder.coordinates(self.data, self.size_N, self.raw_R)
        else:
            rows_Nd = decoder.states(self.data, self.size_N, self.raw_R)
        places = self.shape[0] * self.shape[1]
        if len(rows_Nd) == places:  # rows ascend by their place: none is free
            return rows_Nd.view(*self.shape, -1)
        return rows_Nd.new_zeros(places, rows_Nd.shape[1]).index_copy_(0, self.place_N, rows_Nd).view(*self.shape, -1)


@dataclass(frozen=True)
class JoinedStates(OnDevice):
    """The rows of one array that were encoded by several tables, by the number of these."""

    parts: Mapping[int, EncodedStates]  # at least one; no token has a row in two

    def decoded(self, decoders: Mapping[ArrayKey, StateDecoder]) -> Tensor:
        """[B, T, d_T] states in float32; 0 where there is no row."""
        first, *others = (part.decoded(decoders) for part in self.parts.values())
        return sum(others, start=first)


def gather_rows(
    array: ArrayRecord, rows: RaggedRows | np.ndarray, places: Sequence[np.ndarray], longest: int
) -> EncodedStates:
    """The rows of all samples as the cache gives them, RaggedRows or uint8 [N, bytes], and their places in each, of
    up to `longest` tokens."""
    if isinstance(rows, RaggedRows):
        data, size_N = rows.data, rows.sizes.astype(np.int32)
    else:
        data, size_N = rows.reshape(-1), np.full(len(rows), rows.shape[1], np.int32)
    place_N = np.concatenate([sample * longest + place for sample, place in enumerate(places)])
    return EncodedStates(
        array=(array.kind, array.layer),
        data=torch.from_numpy(data),
        size_N=torch.from_numpy(size_N),
        raw_R=torch.from_numpy(np.flatnonzero(size_N == DECODERS[array.encoding].raw_size_of(array))),
        place_N=torch.from_numpy(place_N),
        shape=(len(places), longest),
    )

"""Decoding rows of residual vector quantisation, on any device. What encodes them stands in pipeline.encoding.

A row is a string of bytes: its gain, its centroid if the tables have any, and one byte per stage. Stage s refines the
components of one band by one of 256 entries. How many stages a row has follows from its size; a row of 2 d bytes is
its state in bfloat16, and a coded one is always shorter.

Shapes: N rows, d hidden size, k components, B bands, S stages, W the widest band.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import torch
from torch import Tensor

WIDEST = 8  # components of a band
NUMBERS_AT_ONCE = 2**23  # looked up: 32 MB


@dataclass(frozen=True)
class RVQTables:
    """What rows of one array are decoded by; the fields are the tensors of its file in codecs/."""

    mean_d: Tensor
    decoder_kd: Tensor
    encoder_dk: Tensor  # its inverse
    gains: Tensor  # [256]
    centroids: Tensor  # [256, k] or [0, k]
    bands: Tensor  # [B, 2] int32: [start, end) of components
    band_S: Tensor  # int32
    codebooks: Tensor  # [S, 256, W] float16, zero beyond a band's width
    scales_TB: Tensor  # [S + 1, B] float32: what the bands of a row of T stages are multiplied with, its centroid aside

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> Self:
        """Of the tensors in a file. Raises KeyError if one is missing."""
        return cls(**{name: tensors[name] for name in cls.__dataclass_fields__})

    def to(self, device: torch.device) -> Self:
        """The same tables on a device."""
        return type(self)(**{name: getattr(self, name).to(device) for name in self.__dataclass_fields__})

    @property
    def header(self) -> int:
        """Bytes before the stages."""
        return 1 + (len(self.centroids) > 0)

    @property
    def raw_size(self) -> int:
        """The bytes of a row in bfloat16."""
        return 2 * len(self.mean_d)

    @cached_property
    def _places(self) -> Tensor:
        """[k] long: where each component stands in [B, W], flat."""
        starts, ends = self.bands.long().unbind(1)
        band_k = torch.repeat_interleave(torch.arange(len(starts), device=starts.device), ends - starts)
        return band_k * WIDEST + torch.arange(len(band_k), device=starts.device) - starts[band_k]

    def coordinates(self, data: Tensor, size_N: Tensor) -> Tensor:
        """y [N, k] in float32 of rows of `size_N` bytes (int32), one after the other in `data`: x = mean + y decoder.

        What lies outside the components that are kept is lost, also of a raw row.
        """
        start_N = _starts(size_N)
        y_Nk = data.new_empty(len(size_N), len(self.decoder_kd), dtype=torch.float32)
        step = max(1, NUMBERS_AT_ONCE // max(1, len(self.band_S) * WIDEST))
        for first in range(0, len(size_N), step):
            some = slice(first, first + step)
            y_Nk[some] = self._refined(data, start_N[some], size_N[some])
        raw_R, raw_Rd = self._raw(data, start_N, size_N)
        y_Nk[raw_R] = (raw_Rd - self.mean_d) @ self.encoder_dk
        return y_Nk

    def states(self, data: Tensor, size_N: Tensor) -> Tensor:
        """x [N, d] in float32 of the same rows; raw ones exactly as they were."""
        x_Nd = torch.addmm(self.mean_d, self.coordinates(data, size_N), self.decoder_kd)
        raw_R, raw_Rd = self._raw(data, _starts(size_N), size_N)
        x_Nd[raw_R] = raw_Rd
        return x_Nd

    def _refined(self, data: Tensor, start_N: Tensor, size_N: Tensor) -> Tensor:
        """Raw rows come out as something finite."""
        kept_N = (size_N.long() - self.header).clamp_max(len(self.band_S))
        stage_S = torch.arange(len(self.band_S), device=data.device)
        place_NS = (start_N + self.header)[:, None] + torch.minimum(stage_S, (kept_N - 1).clamp_min(0)[:, None])
        code_NS = data[place_NS.clamp_max(len(data) - 1)].long()
        entries = self.codebooks.flatten(0, 1)[stage_S * 256 + code_NS].float()
        entries *= (stage_S < kept_N[:, None])[..., None]
        y_NBW = entries.new_zeros(len(start_N), len(self.bands), WIDEST).index_add_(1, self.band_S, entries)
        y_Nk = (y_NBW * self.scales_TB[kept_N][..., None]).flatten(1)[:, self._places]
        if len(self.centroids):
            y_Nk += self.centroids[data[start_N + 1].long()]
        return y_Nk * self.gains[data[start_N].long()][:, None]

    def _raw(self, data: Tensor, start_N: Tensor, size_N: Tensor) -> tuple[Tensor, Tensor]:
        """Which rows are raw, [R], and their states, [R, d]."""
        raw_R = (size_N == self.raw_size).nonzero()[:, 0]
        place_Rx = start_N[raw_R][:, None] + torch.arange(self.raw_size, device=data.device)
        return raw_R, data[place_Rx].view(torch.bfloat16).float()


def _starts(size_N: Tensor) -> Tensor:
    size_N = size_N.long()
    return size_N.cumsum(0) - size_N

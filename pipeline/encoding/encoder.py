"""Rows of hidden states into strings of bytes, each as long as it pays.

A row stops at the number of stages that makes error + price * bytes least. It is kept raw if even that is more than its
raw bytes cost, which is so for the few that are unlike all others, or if its error is above a bound. The price is one
number per layer, chosen for a tolerance.

Shapes: N rows, d hidden size, k components, S stages, T = S + 1 numbers of stages, from 0.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pipeline.encoding.codebook import nearest
from pipeline.encoding.gains import encode_gains, sizes
from pipeline.encoding.stages import Stages, encode_stages
from schemas.models.rvq import RVQTables


@dataclass(frozen=True)
class EncodedRows:
    """Rows as they lie on disk."""

    data: Tensor  # uint8, all rows one after the other
    size_N: Tensor  # int32: the bytes of each
    error_N: Tensor  # float32: what each cost, in the encoder's measure; 0 of raw rows


@dataclass(frozen=True)
class Encoder:
    """What encodes the rows of one layer. Its measure of an error is `relative` to the row's size, or absolute."""

    tables: RVQTables
    stages: Stages
    weight_k: Tensor  # of a squared error in a component
    deviation_k: Tensor | None  # for the size of a row; None: its norm, and errors are relative to it
    price: float = 0.0  # of a byte
    bound: float = float("inf")  # of a row's error

    @property
    def relative(self) -> bool:
        """An error is measured by the row's own size."""
        return self.deviation_k is None

    def at(self, price: float) -> "Encoder":
        """The same at another price."""
        return replace(self, price=price)

    def to(self, device: torch.device) -> "Encoder":
        """The same on a device."""
        stages = replace(self.stages, codebooks=[codebook.to(device) for codebook in self.stages.codebooks])
        deviation_k = None if self.deviation_k is None else self.deviation_k.to(device)
        weight_k = self.weight_k.to(device)
        return replace(self, tables=self.tables.to(device), stages=stages, weight_k=weight_k, deviation_k=deviation_k)

    def codes(self, states_Nd: Tensor, all_prices: bool = True) -> "RowCodes":
        """The bytes that each row could have, and the error at each length; at this price alone in less time."""
        left_Nk, header_Nx = self.before_stages(states_Nd)
        # Of a squared error in units of the row's gain.
        scale_N = torch.ones_like(left_Nk[:, 0])
        if not self.relative:
            scale_N = self.tables.gains[header_Nx[:, 0].long()].square() / 2
        price_N = None if all_prices else self.price / scale_N
        codes_NS, error_NT = encode_stages(self.stages, left_Nk, self.weight_k, price_N)
        return RowCodes(torch.cat([header_Nx, codes_NS], 1), error_NT * scale_N[:, None])

    def before_stages(self, states_Nd: Tensor) -> tuple[Tensor, Tensor]:
        """What the stages are to encode, [N, k], and the bytes that go before theirs, [N, header] uint8."""
        y_Nk = (states_Nd.float() - self.tables.mean_d) @ self.tables.encoder_dk
        gain_N = encode_gains(sizes(y_Nk, self.deviation_k), self.tables.gains)
        y_Nk /= self.tables.gains[gain_N][:, None]
        header = [gain_N]
        if len(self.tables.centroids):
            centroid_N = nearest(y_Nk, self.tables.centroids)
            y_Nk -= self.tables.centroids[centroid_N]
            header.append(centroid_N)
        return y_Nk, torch.stack(header, 1).to(torch.uint8)

    def encode(self, states_Nd: Tensor, codes: "RowCodes | None" = None) -> EncodedRows:
        """The rows at this price. `codes` are theirs, if they are known already."""
        codes = codes or self.codes(states_Nd, all_prices=False)
        stages_N, error_N = self.choose(codes)
        raw_N = stages_N < 0
        size_N = torch.where(raw_N, self.tables.raw_size, self.tables.header + stages_N)
        place_x = torch.arange(codes.bytes_Nx.shape[1], device=size_N.device)
        data = codes.bytes_Nx.masked_select(place_x < torch.where(raw_N, 0, size_N)[:, None])
        if raw_N.any():
            is_raw = raw_N.repeat_interleave(size_N)  # of each byte
            raw = states_Nd[raw_N].to(torch.bfloat16).contiguous().view(torch.uint8)
            data = data.new_empty(len(is_raw)).masked_scatter_(~is_raw, data).masked_scatter_(is_raw, raw)
        return EncodedRows(data, size_N.int(), error_N)

    def choose(self, codes: "RowCodes") -> tuple[Tensor, Tensor]:
        """The number of stages of each row, [N] long, -1 for raw, and its error."""
        size_T = self.tables.header + torch.arange(codes.error_NT.shape[1], device=codes.error_NT.device)
        cost_N, stages_N = (codes.error_NT + self.price * size_T).min(1)
        error_N = codes.error_NT.gather(1, stages_N[:, None])[:, 0]
        raw_N = (cost_N > self.price * self.tables.raw_size) | (error_N > self.bound) | ~error_N.isfinite()
        return torch.where(raw_N, -1, stages_N), torch.where(raw_N, 0.0, error_N)


@dataclass(frozen=True)
class RowCodes:
    """What rows may be cut from."""

    bytes_Nx: Tensor  # uint8: header and all stages
    error_NT: Tensor  # float32, after each number of stages

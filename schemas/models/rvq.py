"""Decoding rows of residual vector quantisation, on any device. What encodes them stands in pipeline.encoding.

A row is a string of bytes: its gain, its centroid if the tables have any, and one byte per stage. Stage s refines the
components of one band by one of 256 entries. How many stages a row has follows from its size; a row of 2 d bytes is
its state in bfloat16, and a coded one is always shorter.

Costs, on one CPU core, of rows 640 wide: 3 us for the look-ups of 240 stages, and 10 us for the product with the
decoder, which `fold` spares. Of shorter rows the product is smaller.

Shapes: N rows, d hidden size, k = d components, B bands, S stages, W the widest band, R raw rows; of one chunk, n rows,
s stages, b bands and q components that they refine.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Self

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

WIDEST = 8  # components of a band
ROWS_ON_CPU = 256  # whose look-ups stay in a core's cache
STEP = 8  # stages: chunks of rows whose longest differ by less are looked up alike
CODES_ON_GPU = 2**24  # looked up at once: 200 MB


@dataclass(frozen=True)
class RVQTables:
    """What rows of one array are decoded by; the fields are the tensors of its file in codecs/.

    Wherever rows are decoded, `data` [bytes] uint8 holds them one after the other, `size_N` (integers) says how many
    bytes each has, and `raw_R` which of them are raw: left out, it is looked up, for which a GPU must be waited for.
    """

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
    def order_k(self) -> Tensor:
        """[k] long: the components in the order of `coordinates`, refined ones first."""
        refined = self._look_up(len(self.band_S)).component_q
        every_k = torch.arange(len(self.decoder_kd), device=refined.device)
        return torch.cat([refined, every_k[~torch.isin(every_k, refined)]])

    @cached_property
    def _mean_coordinates(self) -> Tensor:
        return self.mean_d @ self.encoder_dk[:, self.order_k]

    def coordinates(self, data: Tensor, size_N: Tensor, raw_R: Tensor | None = None) -> Tensor:
        """y [N, k] in float32, x = y `basis_kd`: components, to which the mean's own are added."""
        start_N = _starts(size_N)
        y_Nk = torch.zeros(len(size_N), len(self.decoder_kd), device=data.device)
        for rows, look_up in self._chunks(size_N):
            gain_n1, y_nq = self._refine(data, start_N[rows], size_N[rows], look_up)
            if len(self.centroids):
                y_nk = self._centroid_coordinates.index_select(0, self._centroid(data, start_N[rows])).mul_(gain_n1)
                y_nk[:, : y_nq.shape[1]] += y_nq
                y_Nk[rows] = y_nk
            else:
                y_Nk[rows, : y_nq.shape[1]] = y_nq
        raw_R, raw_Rd = self._raw(data, start_N, size_N, raw_R)
        if len(raw_R):
            y_Nk[raw_R] = (raw_Rd - self.mean_d) @ self.encoder_dk[:, self.order_k]
        return y_Nk.add_(self._mean_coordinates)

    @cached_property
    def basis_kd(self) -> Tensor:
        """From coordinates, or weighted sums of them, to states."""
        return self.decoder_kd[self.order_k]

    def states(self, data: Tensor, size_N: Tensor, raw_R: Tensor | None = None) -> Tensor:
        """x [N, d] in float32; raw ones exactly as they were."""
        start_N = _starts(size_N)
        x_Nd = torch.empty(len(size_N), len(self.decoder_kd), device=data.device)
        for rows, look_up in self._chunks(size_N):
            gain_n1, y_nq = self._refine(data, start_N[rows], size_N[rows], look_up)
            x_nd = torch.addmm(self.mean_d, y_nq, self.basis_kd[: y_nq.shape[1]])
            if len(self.centroids):
                x_nd.addcmul_(self._centroid_states.index_select(0, self._centroid(data, start_N[rows])), gain_n1)
            x_Nd[rows] = x_nd
        raw_R, raw_Rd = self._raw(data, start_N, size_N, raw_R)
        if len(raw_R):
            x_Nd[raw_R] = raw_Rd
        return x_Nd

    def _chunks(self, size_N: Tensor) -> Iterator[tuple[Tensor | slice, "_LookUp"]]:
        """Rows to be decoded together, and by what.

        On a CPU rows of like lengths, so that short ones cost less; a GPU would have to be waited for to know lengths.
        """
        stages = len(self.band_S)
        if size_N.device.type != "cpu":
            step = max(1, CODES_ON_GPU // max(1, stages))
            for first in range(0, len(size_N), step):
                yield slice(first, first + step), self._look_up(stages)
            return
        for rows_n in size_N.argsort(stable=True).split(ROWS_ON_CPU):
            longest = int(size_N[rows_n].max()) - self.header if len(rows_n) else 0
            yield rows_n, self._look_up(min(stages, -(-longest // STEP) * STEP))

    def _refine(self, data: Tensor, start_n: Tensor, size_n: Tensor, tables: "_LookUp") -> tuple[Tensor, Tensor]:
        """Gains [n, 1], and what the stages say of the components they refine, [n, q]; of raw rows, anything."""
        # A row too short for its header is not one of ours; it must not read beyond the end.
        gain_n1 = self.gains[data[start_n.clamp_max(len(data) - 1)].long()][:, None]
        stages_n = size_n.long() - self.header
        if not len(tables.order_s):
            return gain_n1, gain_n1[:, :0]
        place_ns = (start_n + self.header)[:, None] + tables.order_s
        entry_ns = data.take(place_ns.clamp_max_(len(data) - 1)) + tables.first_entry_s
        entry_ns = torch.where(tables.order_s < stages_n[:, None], entry_ns, len(self._entries) - 1)
        first_nb = torch.arange(len(size_n), device=data.device)[:, None] * entry_ns.shape[1] + tables.first_b
        sums = embedding_bag(entry_ns.flatten(), self._entries, first_nb.flatten().int(), mode="sum")
        y_nq = tables.without_gaps(sums.view(len(size_n), -1))
        if self._has_scales:
            scales_nk = self._scales_Tk.index_select(0, stages_n.clamp(0, len(self.band_S)))  # faster than indexing
            y_nq *= scales_nk[:, : y_nq.shape[1]]
        return gain_n1, y_nq.mul_(gain_n1)

    def _centroid(self, data: Tensor, start_n: Tensor) -> Tensor:
        return data[(start_n + 1).clamp_max(len(data) - 1)].long()

    def _raw(self, data: Tensor, start_N: Tensor, size_N: Tensor, raw_R: Tensor | None) -> tuple[Tensor, Tensor]:
        """Which rows are raw, [R], and their states, [R, d]."""
        if raw_R is None:
            raw_R = (size_N == self.raw_size).nonzero()[:, 0]
        place_Rx = start_N[raw_R][:, None] + torch.arange(self.raw_size, device=data.device)
        return raw_R, data[place_Rx].view(torch.bfloat16).float()

    @cached_property
    def _entries(self) -> Tensor:
        """[S * 256 + 1, W] float32: the codebooks, and zeros for stages that a row does not have."""
        entries = self.codebooks.flatten(0, 1).float()
        return torch.cat([entries, entries.new_zeros(1, WIDEST)])

    @cached_property
    def _centroid_coordinates(self) -> Tensor:
        """[256, k]."""
        return self.centroids[:, self.order_k]

    @cached_property
    def _centroid_states(self) -> Tensor:
        """[256, d], the mean left out."""
        return self.centroids @ self.decoder_kd

    @cached_property
    def _has_scales(self) -> bool:
        return bool((self.scales_TB != 1).any())

    @cached_property
    def _scales_Tk(self) -> Tensor:
        """[S + 1, k]: `scales_TB` of the refined components, in the order of `coordinates`."""
        look_up = self._look_up(len(self.band_S))
        return self.scales_TB[:, look_up.band_q]

    def _look_up(self, stages: int) -> "_LookUp":
        if stages not in self._look_ups:
            self._look_ups[stages] = _LookUp.of(self, stages)
        return self._look_ups[stages]

    @cached_property
    def _look_ups(self) -> dict[int, "_LookUp"]:
        return {}


@dataclass(frozen=True)
class _LookUp:
    """In which order the first s stages are looked up: band by band, in the order in which they are first refined.

    So what fewer stages refine stands first among what more do.
    """

    order_s: Tensor  # long: the stages
    first_entry_s: Tensor  # int32: of each, among the entries
    first_b: Tensor  # long: where the stages of each band begin
    component_q: Tensor  # long: the components that they refine
    band_q: Tensor  # long: the band of each
    runs: tuple[slice, ...]  # of columns of [b, W], flat, that are components; bands of W columns are one run

    @classmethod
    def of(cls, tables: RVQTables, stages: int) -> Self:
        """Of the first `stages` of the tables, on their device."""
        stages_of: dict[int, list[int]] = {}
        for stage, band in enumerate(tables.band_S[:stages].tolist()):
            stages_of.setdefault(band, []).append(stage)
        order = [stage for its_stages in stages_of.values() for stage in its_stages]
        parts = {band: range(*tables.bands[band].tolist()) for band in stages_of}

        def long(numbers: list[int]) -> Tensor:
            return torch.tensor(numbers, dtype=torch.long, device=tables.gains.device)

        return cls(
            order_s=long(order),
            first_entry_s=long(order).int() * 256,
            first_b=long([0, *accumulate(map(len, stages_of.values()))][:-1]),
            component_q=long([component for part in parts.values() for component in part]),
            band_q=long([band for band, part in parts.items() for _ in part]),
            runs=_runs([len(part) for part in parts.values()]),
        )

    def without_gaps(self, sums_nx: Tensor) -> Tensor:
        """[n, b * W] -> [n, q]; a view, if no band but the last is narrower than W. A few copies of many columns take
        a tenth of looking each column up."""
        if len(self.runs) == 1:
            return sums_nx[:, self.runs[0]]
        return torch.cat([sums_nx[:, run] for run in self.runs], 1)


def _runs(widths: list[int]) -> tuple[slice, ...]:
    """Where bands of these widths, each in WIDEST columns, follow one another without a gap."""
    runs: list[slice] = []
    for place, width in enumerate(widths):
        start, stop = WIDEST * place, WIDEST * place + width
        if runs and runs[-1].stop == start:
            start = runs.pop().start
        runs.append(slice(start, stop))
    return tuple(runs)


def _starts(size_N: Tensor) -> Tensor:
    size_N = size_N.long()
    return size_N.cumsum(0) - size_N

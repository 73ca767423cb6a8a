"""Multi-stage vector quantisation whose bytes may stop anywhere.

The components, in the order of their variance, are cut into bands of neighbours. A stage refines one band by the
nearest of 256 centroids of what the stages before it left. Which band comes next is chosen once, on calibration rows:
the one with most error left. So a row's first n bytes are a good code of n bytes, whatever n, and one training serves
all rates.

Shapes: N rows, k components, S stages.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from pipeline.encoding.codebook import lift_centroids, lift_rows, nearest, nearest_lifted, train_codebook
from schemas.models.rvq import WIDEST

PATIENCE = 16  # stages
RATIO = 4.0  # of the largest variance in a band to the smallest: a codebook spends its centroids on the largest


@dataclass(frozen=True)
class Stages:
    """Which band each stage refines, and with which codebook."""

    bands: Sequence[tuple[int, int]]  # [start, end) of components
    band_S: Sequence[int]
    codebooks: Sequence[Tensor]  # [256, end - start] of each stage

    def part(self, stage: int) -> slice:
        """The components that a stage refines."""
        return slice(*self.bands[self.band_S[stage]])

    @cached_property
    def lifted(self) -> Sequence[tuple[Tensor, Tensor]]:
        """Of each stage, what tells the nearest entry of a lifted row, [g + 1, 256], and what is taken off it then,
        [256, g + 1]: the row stays lifted."""
        return [(lift_centroids(codebook), pad(codebook, (0, 1))) for codebook in self.codebooks]


def cut_bands(variance_k: Tensor) -> list[tuple[int, int]]:
    """Bands of neighbours, whose variances descend: up to WIDEST, and of variances that differ by up to RATIO."""
    bands, start, variances = list[tuple[int, int]](), 0, variance_k.tolist()
    for place in range(1, len(variances) + 1):
        full = place - start == WIDEST
        if place == len(variances) or full or variances[start] > RATIO * variances[place]:
            bands.append((start, place))
            start = place
    return bands


def train_stages(rows_Nk: Tensor, weight_k: Tensor, number: int, seed: int, known: Stages | None = None) -> Stages:
    """`number` stages for rows like these, float32. An error in a component counts `weight_k` times.

    The first ones are those that are `known`, of the same rows.
    """
    left = rows_Nk.clone()
    found = known or Stages(cut_bands(left.square().mean(0)), (), ())
    band_S, codebooks = list(found.band_S), list(found.codebooks)
    for stage, codebook in enumerate(codebooks):
        _refine(left, found.part(stage), codebook)
    energies = [_energy(left, weight_k, band) for band in found.bands]
    for stage in range(len(codebooks), number):
        chosen = int(np.argmax(energies))
        part = slice(*found.bands[chosen])
        codebook = train_codebook(left[:, part].contiguous(), seed + stage).half().float()  # as it is stored
        _refine(left, part, codebook)
        energies[chosen] = _energy(left, weight_k, found.bands[chosen])
        band_S.append(chosen)
        codebooks.append(codebook)
    return Stages(found.bands, band_S, codebooks)


def encode_stages(
    stages: Stages, rows_Nk: Tensor, weight_k: Tensor, price_N: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Codes [N, S], uint8, and the weighted squared error after each number of stages, [N, S + 1].

    With a price of a stage, a row gets no more once none of PATIENCE in a row was worth it: codes 0, errors infinite.
    """
    weight_k = weight_k.to(rows_Nk)
    codes_SN = torch.zeros(len(stages.codebooks), len(rows_Nk), dtype=torch.uint8, device=rows_Nk.device)
    error_TN = rows_Nk.new_full((len(codes_SN) + 1, len(rows_Nk)), torch.inf)
    error_TN[0] = rows_Nk.square() @ weight_k
    left = {band: lift_rows(rows_Nk[:, slice(*stages.bands[band])]) for band in set(stages.band_S)}
    row_A, best_N = torch.arange(len(rows_Nk), device=rows_Nk.device), error_TN[0].clone()
    for first in range(0, len(codes_SN), PATIENCE):
        some = range(first, min(first + PATIENCE, len(codes_SN)))
        codes_PA, error_PA = _encode_some(stages, some, left, row_A, weight_k, error_TN[first, row_A])
        codes_SN[some.start : some.stop].index_copy_(1, row_A, codes_PA)
        error_TN[some.start + 1 : some.stop + 1].index_copy_(1, row_A, error_PA)
        if price_N is not None:
            place_P = torch.arange(some.start + 1, some.stop + 1, device=rows_Nk.device)
            cost_A = (error_PA + price_N[row_A] * place_P[:, None]).amin(0)
            pays_A = cost_A < best_N[row_A]
            best_N[row_A] = torch.minimum(best_N[row_A], cost_A)
            row_A = row_A[pays_A]
            if not len(row_A):
                break
    return codes_SN.T.contiguous(), error_TN.T.contiguous()


def _encode_some(
    stages: Stages, some: range, left: Mapping[int, Tensor], row_A: Tensor, weight_k: Tensor, error_A: Tensor
) -> tuple[Tensor, Tensor]:
    """Codes and errors after each of `some` stages, [P, A], of some rows; what they leave is left in `left`."""
    codes, errors = list[Tensor](), list[Tensor]()
    for stage in some:
        left_Nh, weight_g = left[stages.band_S[stage]], weight_k[stages.part(stage)]
        centroids_hK, entries_Kh = stages.lifted[stage]
        before_Ah = left_Nh.index_select(0, row_A)
        code_A = nearest_lifted(before_Ah, centroids_hK)
        after_Ah = before_Ah - entries_Kh.index_select(0, code_A)
        left_Nh.index_copy_(0, row_A, after_Ah)
        error_A = error_A + (after_Ah.square() - before_Ah.square())[:, :-1].contiguous() @ weight_g
        codes.append(code_A.to(torch.uint8))
        errors.append(error_A)
    return torch.stack(codes), torch.stack(errors)


def _refine(left_Nk: Tensor, part: slice, codebook: Tensor) -> None:
    left_Nk[:, part] -= codebook[nearest(left_Nk[:, part], codebook)]


def _energy(left_Nk: Tensor, weight_k: Tensor, band: tuple[int, int]) -> float:
    part = slice(*band)
    return float((left_Nk[:, part].double().square().mean(0) * weight_k[part]).sum())

"""Multi-stage vector quantisation whose bytes may stop anywhere.

The components, in the order of their variance, are cut into bands of neighbours. A stage refines one band by the
nearest of 256 centroids of what the stages before it left. Which band comes next is chosen once, on calibration rows:
the one with most error left. So a row's first n bytes are a good code of n bytes, whatever n, and one training serves
all rates.

Shapes: N rows, k components, S stages.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline.encoding.codebook import nearest, train_codebook
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
    """`number` stages for rows like these, float32 on the CPU. An error in a component counts `weight_k` times.

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
    number, weight_k = len(stages.codebooks), weight_k.to(rows_Nk)
    codes_NS = torch.zeros(len(rows_Nk), number, dtype=torch.uint8, device=rows_Nk.device)
    error_NT = rows_Nk.new_full((len(rows_Nk), number + 1), torch.inf)
    error_NT[:, 0] = rows_Nk.square() @ weight_k
    row_A, left_Ak, best_N = torch.arange(len(rows_Nk), device=rows_Nk.device), rows_Nk.clone(), error_NT[:, 0].clone()
    for first in range(0, number, PATIENCE):
        some = range(first, min(first + PATIENCE, number))
        codes_AP, error_AP = _encode_some(stages, some, left_Ak, weight_k, error_NT[row_A, first])
        codes_NS[row_A, some.start : some.stop] = codes_AP
        error_NT[row_A, some.start + 1 : some.stop + 1] = error_AP
        if price_N is not None:
            place_P = torch.arange(some.start + 1, some.stop + 1, device=rows_Nk.device)
            cost_A = (error_AP + price_N[row_A, None] * place_P).amin(1)
            pays_A = cost_A < best_N[row_A]
            best_N[row_A] = torch.minimum(best_N[row_A], cost_A)
            row_A, left_Ak = row_A[pays_A], left_Ak[pays_A]
    return codes_NS, error_NT


def _encode_some(
    stages: Stages, some: range, left_Nk: Tensor, weight_k: Tensor, error_N: Tensor
) -> tuple[Tensor, Tensor]:
    """Codes and errors after each of `some` stages, [N, P]; what they leave is left in `left_Nk`."""
    codes, errors = list[Tensor](), list[Tensor]()
    for stage in some:
        part, codebook = stages.part(stage), stages.codebooks[stage].to(left_Nk)
        before_Ng = left_Nk[:, part]
        code_N = nearest(before_Ng, codebook)
        after_Ng = before_Ng - codebook[code_N]
        error_N = error_N + (after_Ng.square() - before_Ng.square()) @ weight_k[part]
        left_Nk[:, part] = after_Ng
        codes.append(code_N.to(torch.uint8))
        errors.append(error_N)
    return torch.stack(codes, 1), torch.stack(errors, 1)


def _refine(left_Nk: Tensor, part: slice, codebook: Tensor) -> None:
    left_Nk[:, part] -= codebook[nearest(left_Nk[:, part], codebook)]


def _energy(left_Nk: Tensor, weight_k: Tensor, band: tuple[int, int]) -> float:
    part = slice(*band)
    return float((left_Nk[:, part].double().square().mean(0) * weight_k[part]).sum())

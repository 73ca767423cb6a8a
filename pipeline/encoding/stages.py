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


def train_stages(rows_Nk: Tensor, weight_k: Tensor, number: int, seed: int) -> Stages:
    """`number` stages for rows like these, float32 on the CPU. An error in a component counts `weight_k` times."""
    left = rows_Nk.clone()
    bands = cut_bands(left.square().mean(0))
    energies = [_energy(left, weight_k, band) for band in bands]
    band_S, codebooks = list[int](), list[Tensor]()
    for stage in range(number):
        chosen = int(np.argmax(energies))
        part = slice(*bands[chosen])
        codebook = train_codebook(left[:, part].contiguous(), seed + stage).half().float()  # as it is stored
        left[:, part] -= codebook[nearest(left[:, part], codebook)]
        energies[chosen] = _energy(left, weight_k, bands[chosen])
        band_S.append(chosen)
        codebooks.append(codebook)
    return Stages(bands, band_S, codebooks)


def encode_stages(stages: Stages, rows_Nk: Tensor, weight_k: Tensor) -> tuple[Tensor, Tensor]:
    """Codes [N, S], uint8, and the weighted squared error after each number of stages, [N, S + 1]."""
    left, weight_k = rows_Nk.clone(), weight_k.to(rows_Nk)
    codes = torch.empty(len(left), len(stages.codebooks), dtype=torch.uint8, device=left.device)
    errors = left.new_empty(len(left), len(stages.codebooks) + 1)
    errors[:, 0] = left.square() @ weight_k
    for stage, codebook in enumerate(stages.codebooks):
        part = stages.part(stage)
        before = left[:, part].square() @ weight_k[part]
        code = nearest(left[:, part], codebook.to(left))
        codes[:, stage] = code.to(torch.uint8)
        left[:, part] -= codebook.to(left)[code]
        errors[:, stage + 1] = errors[:, stage] + (left[:, part].square() @ weight_k[part] - before)
    return codes, errors


def _energy(left_Nk: Tensor, weight_k: Tensor, band: tuple[int, int]) -> float:
    part = slice(*band)
    return float((left_Nk[:, part].double().square().mean(0) * weight_k[part]).sum())

"""Rows like those of a layer: a common direction, clusters, a steep spectrum, and sizes that differ."""

import numpy as np
import torch
from torch import Tensor

WIDTH = 24


def layer(number: int, seed: int = 0) -> Tensor:
    """[number, WIDTH] float32; every seed draws from the same distribution."""
    fixed, random = np.random.default_rng(99), np.random.default_rng(seed)
    basis = np.linalg.qr(fixed.standard_normal((WIDTH, WIDTH)))[0] * np.geomspace(4, 0.05, WIDTH)[:, None]
    centres = fixed.standard_normal((12, WIDTH))
    shape = random.standard_normal((number, WIDTH)) @ basis + centres[random.integers(12, size=number)]
    sizes = np.exp(random.standard_normal((number, 1)))
    return torch.from_numpy(sizes * shape + 10 * fixed.standard_normal(WIDTH)).float()

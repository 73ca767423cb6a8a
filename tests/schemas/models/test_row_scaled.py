"""Codes with a row scale, against a decoder that takes them byte by byte in float64."""

import numpy as np
import pytest
import torch

from schemas.models.decoders.fp8 import Float8Decoder
from schemas.models.decoders.int8 import Int8Decoder
from schemas.models.row_scaled import RowScaledDecoder
from tests.schemas.models.naive_row_scaled import decode

KINDS: list[type[RowScaledDecoder]] = [Float8Decoder, Int8Decoder]


def rows(codes_Nd: np.ndarray, scales: np.ndarray) -> np.ndarray:
    return np.concatenate([codes_Nd.astype(np.uint8), scales.astype("<f4")[:, None].view(np.uint8)], 1)


def found(kind: type[RowScaledDecoder], rows_Nx: np.ndarray) -> torch.Tensor:
    size_N = torch.full((len(rows_Nx),), rows_Nx.shape[1])
    return kind(kind.values(), rows_Nx.shape[1] - 4).states(torch.from_numpy(rows_Nx).flatten(), size_N)


@pytest.mark.parametrize("kind", KINDS)
def test_every_code(kind: type[RowScaledDecoder]) -> None:
    rows_Nx = rows(np.arange(256)[None], np.array([1.0]))
    states = found(kind, rows_Nx)
    assert states.dtype == torch.float32
    np.testing.assert_array_equal(states.numpy(), decode(kind.name, rows_Nx))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 9])
def test_each_row_has_its_scale(kind: type[RowScaledDecoder], count: int) -> None:
    random = np.random.default_rng(0)
    rows_Nx = rows(random.integers(0, 120, (count, 13)), random.standard_normal(count) * 1e3)
    np.testing.assert_allclose(found(kind, rows_Nx).numpy(), decode(kind.name, rows_Nx), rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_no_rows(kind: type[RowScaledDecoder]) -> None:
    states = kind(kind.values(), 5).states(torch.empty(0, dtype=torch.uint8), torch.empty(0))
    assert states.shape == (0, 5) and states.dtype == torch.float32

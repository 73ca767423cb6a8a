"""Stored rows as numbers: plain ones of every dtype, and none of what is not numbers."""

from pathlib import Path

import numpy as np
import torch

from schemas.cache.arrays import ArrayRecord
from schemas.cache.manifest import read_manifest
from schemas.cache.ragged import RaggedRows
from schemas.models.row_numbers import RowNumbers, plain_numbers

GOLDEN = Path(__file__).parents[2] / "golden" / "cache-2"


def test_bfloat16_is_the_upper_half_of_a_float32() -> None:
    values = torch.tensor([1.5, -0.0078125, 3e38], dtype=torch.bfloat16)
    bits = values.view(torch.uint16).numpy()
    assert plain_numbers(bits, "bfloat16").tolist() == values.double().tolist()
    assert plain_numbers(np.array([1.5], np.float16), "float16").tolist() == [1.5]


def test_compressed_numbers_are_numbers_and_draws_are_not() -> None:
    numbers = RowNumbers(GOLDEN, read_manifest(GOLDEN))
    pooled = ArrayRecord(kind="pooled", layer=1, width=2, dtype="bfloat16", encoding="zstd")
    found = numbers.of(np.array([[0x3FC0, 0xBF80]], np.uint16), pooled)
    assert found is not None and found.tolist() == [[1.5, -1.0]]
    draws = ArrayRecord(kind="sampled/draws", layer=1, width=6, dtype="uint8", encoding="draws")
    assert numbers.of(RaggedRows.of(np.zeros(3, np.uint8), np.array([3])), draws) is None

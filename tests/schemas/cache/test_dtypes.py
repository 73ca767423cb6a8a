"""Numbers in their stored form, of which NumPy lacks one."""

import numpy as np
import torch

from schemas.cache.dtypes import STORED, widened


def test_bfloat16_is_widened_and_others_stay() -> None:
    values = torch.tensor([1.0, -2.5, 3e38, 1e-40, float("inf")]).bfloat16()
    bits = values.view(torch.uint16).numpy()
    assert bits.dtype == STORED["bfloat16"]
    assert widened(bits).tolist() == values.float().tolist() and widened(bits).dtype == np.float32
    halves = np.array([1.5], np.float16)
    assert widened(halves) is halves

"""Rows of several lengths as one tensor."""

import numpy as np
import torch

from trainer.data.padding import lengths_mask, pad_rows


def test_integers_become_long_and_booleans_stay() -> None:
    rows = [np.array([3, 4], np.int32), np.array([], np.int32), np.array([5, 6, 7], np.int32)]
    padded = pad_rows(rows, -1)
    assert padded.dtype == torch.long and padded.tolist() == [[3, 4, -1], [-1, -1, -1], [5, 6, 7]]
    flags = pad_rows([np.array([True]), np.array([False, True])], False)
    assert flags.dtype == torch.bool and flags.tolist() == [[True, False], [False, True]]


def test_a_mask_of_lengths() -> None:
    assert lengths_mask([0, 2, 3], 3).tolist() == [[False] * 3, [True, True, False], [True] * 3]
    assert lengths_mask([1], 2).dtype == torch.bool

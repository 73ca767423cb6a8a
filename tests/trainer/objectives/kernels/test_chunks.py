"""Chunks: every row once and in order, at least one at a time, in the memory of the device."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from trainer.objectives.kernels.chunks import ON_CPU, ON_GPU, Chunks, chunks_for, slices


@pytest.mark.parametrize(
    ("start", "stop", "size", "found"),
    [
        (0, 5, 2, [(0, 2), (2, 4), (4, 5)]),
        (3, 7, 2, [(3, 5), (5, 7)]),
        (3, 4, 9, [(3, 4)]),
        (0, 3, 0, [(0, 1), (1, 2), (2, 3)]),
        (0, 3, 1, [(0, 1), (1, 2), (2, 3)]),
        (4, 4, 2, []),
    ],
)
def test_slices_follow_one_another(start: int, stop: int, size: int, found: list[tuple[int, int]]) -> None:
    assert list(slices(start, stop, size)) == [slice(*bounds) for bounds in found]


def test_left_out_they_are_those_of_the_device() -> None:
    given, on_gpu = Chunks(1, 2, 3), SimpleNamespace(device=torch.device("cuda"))
    like: Any = on_gpu
    assert chunks_for(torch.zeros(1), None) is ON_CPU and chunks_for(like, None) is ON_GPU
    assert chunks_for(torch.zeros(1), given) is given and chunks_for(like, given) is given

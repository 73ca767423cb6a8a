"""Cross-entropy against a plain loop: value and gradient, in float64 and float32."""

import pytest
import torch

from schemas.configs.losses.ce import CrossEntropyConfig
from tests.trainer.objectives import naive
from tests.trainer.objectives.matches import DTYPES, assert_matches
from tests.trainer.objectives.world import (
    make_context,
)


@DTYPES
@pytest.mark.parametrize("seed", range(3))
def test_cross_entropy(seed: int, dtype: torch.dtype) -> None:
    truth = lambda loss, student, batch: naive.ce(student, batch)  # noqa: E731
    assert_matches(CrossEntropyConfig(weight=0.7), make_context(), seed, dtype, truth)

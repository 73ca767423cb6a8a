"""One byte for the size of a row."""

import math

import pytest
import torch

from pipeline.encoding.gains import encode_gains, sizes, train_gains
from tests.pipeline.encoding.layers import layer


def test_levels_ascend_and_are_near_in_ratio_over_six_decades() -> None:
    drawn = torch.logspace(-3, 3, 4001)
    gains = train_gains(drawn)
    assert gains.shape == (256,) and (gains.diff() > 0).all()
    ratio = (gains[encode_gains(drawn, gains)] / drawn).log().abs()
    assert float(ratio.max()) < 1.1 * math.log(1e6) / 256 / 2 * 2


def test_a_row_that_is_the_mean_has_a_level_too() -> None:
    gains = train_gains(torch.tensor([0.0, 1.0, 2.0]))
    assert gains.isfinite().all() and (gains > 0).all()
    assert gains[encode_gains(torch.tensor([2.0]), gains)].tolist() == pytest.approx([2.0], rel=1e-5)


def test_a_size_is_a_norm_or_counts_components_alike() -> None:
    rows = layer(50)
    torch.testing.assert_close(sizes(rows, None), rows.norm(dim=1))
    deviation = rows.std(0)
    wanted = [
        math.sqrt(sum((float(x) / float(s)) ** 2 for x, s in zip(row, deviation, strict=True)) / 24) for row in rows
    ]
    torch.testing.assert_close(sizes(rows, deviation), torch.tensor(wanted))

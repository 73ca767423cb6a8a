"""Powers of two against log_softmax in float64."""

from typing import Any

import pytest
import torch

from trainer.objectives.kernels.powers import Powers


def logits_of(dtype: torch.dtype, offset: float = 0.0) -> Any:
    return (4 * torch.randn(30, 999, generator=torch.Generator().manual_seed(0)) + offset).to(dtype)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 3.0])
def test_softmax_and_surprise(temperature: float) -> None:
    logits, column = logits_of(torch.float64, -70), torch.arange(30)[:, None]
    powers, right = Powers.of(logits, temperature), (logits / temperature).log_softmax(-1)
    torch.testing.assert_close(powers.power_nN / powers.sum_n1, right.exp())
    torch.testing.assert_close(powers.surprise(column), -right.gather(1, column)[:, 0])
    torch.testing.assert_close(powers.power_nN.amax(-1), torch.ones(30, dtype=torch.float64))


def test_squares_are_half_the_temperature() -> None:
    logits, column = logits_of(torch.float64), torch.arange(30)[:, None]
    powers, right = Powers.of(logits, 2.0).squared(), logits.log_softmax(-1)
    torch.testing.assert_close(powers.power_nN / powers.sum_n1, right.exp())
    torch.testing.assert_close(powers.surprise(column), -right.gather(1, column)[:, 0])
    twice = Powers.of(logits, 4.0).squared().squared()
    torch.testing.assert_close(twice.surprise(column), -right.gather(1, column)[:, 0])


def test_the_bits_may_be_written_over_the_logits() -> None:
    logits = logits_of(torch.float32)
    right = Powers.of(logits.clone())
    found = Powers.of(logits, out=logits)
    assert found.bits_nN.data_ptr() == logits.data_ptr()
    assert all(torch.equal(a, b) for a, b in zip(found[:3], right[:3], strict=True))


@pytest.mark.parametrize("offset", [0.0, 40.0, -90.0])
def test_in_float32_it_errs_about_as_torch_does(offset: float) -> None:
    """Each row's error, as a share of the row: of the mean a few per cent more, and in the worst row up to twice."""
    logits = logits_of(torch.float32, offset)
    powers, right = Powers.of(logits), logits.double().softmax(-1)
    ours, theirs = ((x - right).norm(dim=-1) for x in (powers.power_nN / powers.sum_n1, logits.softmax(-1)))
    assert ours.mean() <= 1.05 * theirs.mean() and ours.max() <= 2 * theirs.max()

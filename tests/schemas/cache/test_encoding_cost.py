"""Divergences in few figures."""

import numpy as np
import pytest

from schemas.cache.encoding_cost import describe_divergences, rounded


def test_mean_99th_percentile_and_worst() -> None:
    found = describe_divergences(np.arange(101.0))
    assert found == {"predicted": 101, "kl_mean": 50.0, "kl_p99": 99.0, "kl_worst": 100.0}
    assert describe_divergences(np.array([0.123456789])) == {
        "predicted": 1,
        "kl_mean": 0.12346,
        "kl_p99": 0.12346,
        "kl_worst": 0.12346,
    }


@pytest.mark.parametrize(("number", "kept"), [(0.0, 0.0), (123456.7, 123460.0), (1.23456789e-7, 1.2346e-7)])
def test_five_digits_are_kept(number: float, kept: float) -> None:
    assert rounded(number) == kept

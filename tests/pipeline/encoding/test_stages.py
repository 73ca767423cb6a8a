"""Stages: every prefix of a row's bytes is a code, and its error is what it says."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.encoding.stages import PATIENCE, RATIO, cut_bands, encode_stages, train_stages
from schemas.models.rvq import WIDEST


def rows(number: int, seed: int = 0) -> torch.Tensor:
    """Of 20 components whose deviations fall from 10 to a tenth."""
    drawn = np.random.default_rng(seed).standard_normal((number, 20)) * np.geomspace(10, 0.1, 20)
    return torch.from_numpy(drawn).float()


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=40))
def test_bands_cover_all_components_once_and_hold_like_variances(variances: list[float]) -> None:
    descending = torch.tensor(sorted(variances, reverse=True), dtype=torch.float64)
    bands = cut_bands(descending)
    assert [place for start, end in bands for place in range(start, end)] == list(range(len(descending)))
    for start, end in bands:
        assert 1 <= end - start <= WIDEST and descending[start] <= RATIO * descending[end - 1]
    for start, end in bands[:-1]:  # each is as wide as it may be
        assert end - start == WIDEST or descending[start] > RATIO * descending[end]


def test_the_error_after_n_bytes_is_that_of_the_rows_decoded_from_n_bytes() -> None:
    trained, weight = train_stages(rows(3000), torch.linspace(1, 2, 20), 30, seed=0), torch.linspace(1, 2, 20)
    held_out = rows(200, seed=1)
    codes, errors = encode_stages(trained, held_out, weight)
    assert codes.dtype == torch.uint8 and codes.shape == (200, 30) and errors.shape == (200, 31)
    decoded = torch.zeros(200, 20, dtype=torch.float64)
    for stage in range(31):
        wanted = ((held_out.double() - decoded).square() * weight).sum(1)
        torch.testing.assert_close(errors[:, stage].double(), wanted, rtol=1e-3, atol=1e-3)
        if stage < 30:
            decoded[:, trained.part(stage)] += trained.codebooks[stage][codes[:, stage].long()].double()


def test_the_error_at_a_price_is_that_without_as_far_as_a_row_goes() -> None:
    trained, weight, held_out = train_stages(rows(3000), torch.linspace(1, 2, 20), 40, seed=0), torch.ones(20), rows(90)
    codes, errors = encode_stages(trained, held_out, weight)
    price = torch.logspace(-4, 6, 90)  # of the last, no stage is worth
    some_codes, some_errors = encode_stages(trained, held_out, weight, price)
    stages = some_errors.isfinite().sum(1) - 1
    assert set(stages.tolist()) >= {PATIENCE, 40} and (stages.diff() <= 0).float().mean() > 0.8
    reached = torch.arange(41) <= stages[:, None]
    assert torch.equal(some_errors[reached], errors[reached])
    assert torch.equal(some_codes, torch.where(reached[:, 1:], codes, 0))


def test_each_stage_refines_the_band_with_most_error_left() -> None:
    trained = train_stages(rows(3000), torch.ones(20), 12, seed=0)
    _, errors = encode_stages(trained, rows(3000), torch.ones(20))
    mean = errors.double().mean(0)
    assert (mean.diff() < 0).all() and mean[-1] < 0.02 * mean[0]
    assert trained.band_S[0] == 0  # of the largest deviation
    assert all(codebook.half().float().equal(codebook) for codebook in trained.codebooks)  # as it is stored


def test_a_weight_of_zero_leaves_a_band_alone() -> None:
    weight = torch.ones(20)
    weight[:8] = 0
    trained = train_stages(rows(2000), weight, 10, seed=0)
    assert all(trained.part(stage).start >= 8 or weight[trained.part(stage)].any() for stage in range(10))

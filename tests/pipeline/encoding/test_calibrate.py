"""Tolerances and bits, measured on rows that nothing was learnt from and nothing was chosen by."""

import numpy as np
import pytest
import torch

from pipeline.encoding.calibrate import Goal, calibrate_final, calibrate_inner
from pipeline.encoding.head import Head
from pipeline.encoding.measure import geometry_error, kl_divergence
from schemas.models.logits import LogitTransform
from tests.pipeline.encoding.layers import WIDTH, layer


def head() -> Head:
    weight = np.random.default_rng(3).standard_normal((200, WIDTH)) / 8
    return Head(torch.from_numpy(weight).float(), None, LogitTransform())


@pytest.mark.parametrize("tolerance", [0.01, 0.05])
def test_final_states_hold_their_divergence_at_the_smallest_rate(tolerance: float) -> None:
    encoder = calibrate_final(layer(3000), layer(1500, seed=1), head(), Goal(tolerance))
    fresh = layer(1500, seed=2)
    rows = encoder.encode(fresh)
    found = float(kl_divergence(fresh, encoder.tables.states(rows.data, rows.size_N), head()).mean())
    assert 0.7 * tolerance <= found <= 1.2 * tolerance
    assert float(rows.size_N.float().mean()) < WIDTH


@pytest.mark.parametrize("tolerance", [0.05, 0.15])
def test_inner_states_hold_their_geometry_at_the_smallest_rate(tolerance: float) -> None:
    encoder = calibrate_inner(layer(3000), layer(1500, seed=1), Goal(tolerance))
    fresh = layer(1500, seed=2)
    rows = encoder.encode(fresh)
    found = geometry_error(fresh, encoder.tables.states(rows.data, rows.size_N), encoder.tables.mean_d)
    assert found is not None and 0.7 * tolerance <= found <= 1.2 * tolerance


def test_geometry_holds_over_all_that_is_held_out() -> None:
    """What comes late in it is harder: the rate that its beginning is content with would lose .14 instead of .1."""
    late = layer(6000, seed=1)
    late += 3 * torch.from_numpy(np.random.default_rng(5).standard_normal(late.shape)).float()
    held_out = torch.cat([layer(3072, seed=3), late])
    encoder = calibrate_inner(layer(2000), held_out, Goal(0.1))
    rows = encoder.encode(held_out)
    decoded = encoder.tables.states(rows.data, rows.size_N)
    everywhere = (torch.arange(0, len(held_out) - 3, 12)[:, None] + torch.arange(3)).flatten()
    found = geometry_error(held_out[everywhere], decoded[everywhere], encoder.tables.mean_d)
    assert found is not None and 0.8 * 0.1 <= found <= 1.1 * 0.1


def test_a_bound_costs_bytes_and_changes_no_price() -> None:
    """Bytes grow dearer in the search: rows above a bound must not become raw there, which would look cheaper."""
    plain, bounded = (
        calibrate_final(layer(3000), layer(1500, seed=1), head(), Goal(0.05, bound=bound)) for bound in (1e9, 0.06)
    )
    assert plain.price == bounded.price
    sizes = [encoder.encode(layer(1500, seed=2)).size_N.float().mean() for encoder in (plain, bounded)]
    assert sizes[0] < sizes[1] < WIDTH


@pytest.mark.parametrize("bits", [0.8, 1.0, 4.0])
def test_bits_are_kept_on_average(bits: float) -> None:
    for encoder in (
        calibrate_inner(layer(3000), layer(1500, seed=1), Goal(bits=bits)),
        calibrate_final(layer(3000), layer(1500, seed=1), head(), Goal(bits=bits)),
    ):
        rows = encoder.encode(layer(1500, seed=2))
        assert 8 * len(rows.data) / 1500 / WIDTH == pytest.approx(bits, rel=0.1)


def test_the_same_rows_give_the_same_tables() -> None:
    first, second = (calibrate_inner(layer(800), layer(400, seed=1), Goal(0.1)) for _ in range(2))
    assert first.price == second.price
    assert torch.equal(first.tables.codebooks, second.tables.codebooks)
    assert torch.equal(first.tables.scales_TB, second.tables.scales_TB)


def test_a_few_rows_are_enough_to_go_on() -> None:
    """A corpus of a sentence: nothing is held out well, and nothing breaks."""
    encoder = calibrate_final(layer(5), layer(2, seed=1), head(), Goal(0.02))
    rows = encoder.encode(layer(5))
    assert encoder.tables.states(rows.data, rows.size_N).isfinite().all()

"""Rows of residual vector quantisation, against a decoder that takes them row by row and stage by stage in float64."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from schemas.models.decoders.rvq import RVQDecoder
from schemas.models.rvq import ROWS_ON_CPU, RVQTables
from tests.schemas.models.naive_rvq import decode, handmade_tables, random_rows


def assert_close(found: Tensor, wanted: np.ndarray) -> None:
    """To 1e-6 of each row's length."""
    error_N = np.linalg.norm(found.double().numpy() - wanted, axis=1)
    assert found.dtype == torch.float32 and (error_N <= 1e-6 * np.linalg.norm(wanted, axis=1)).all()


@given(
    seed=st.integers(0, 2**16),
    width=st.integers(3, 40),
    stages=st.integers(0, 20),
    count=st.integers(0, 12),
    inner=st.booleans(),
    raw=st.sampled_from([0.0, 0.3, 1.0]),
)
def test_any_rows_of_any_tables(seed: int, width: int, stages: int, count: int, inner: bool, raw: float) -> None:
    tables = handmade_tables(seed, width, min(stages, 2 * width - 3), inner)
    data, size_N = random_rows(tables, count, seed, raw)
    wanted = decode(tables, data, size_N)
    assert_close(tables.states(data, size_N), wanted)
    y_NK = tables.coordinates(data, size_N)
    assert y_NK.shape == (count, width) and y_NK.dtype == torch.float32
    again_Nd = y_NK.double() @ tables.basis_kd.double()
    error_N = np.linalg.norm(again_Nd.numpy() - wanted, axis=1)
    assert (error_N <= 1e-5 * np.linalg.norm(tables.mean_d)).all()  # which stands among the components, rounded


@pytest.mark.parametrize("inner", [False, True])
def test_more_rows_than_are_looked_up_at_once(inner: bool) -> None:
    tables = handmade_tables(1, inner=inner)
    data, size_N = random_rows(tables, 2 * ROWS_ON_CPU + 7, 2)
    assert_close(tables.states(data, size_N), decode(tables, data, size_N))


def test_whoever_knows_the_raw_rows_may_say_which_they_are() -> None:
    tables = handmade_tables(3)
    data, size_N = random_rows(tables, 40, 4)
    raw_R = (size_N == tables.raw_size).nonzero()[:, 0]
    assert 0 < len(raw_R) < 40
    assert torch.equal(tables.states(data, size_N, raw_R), tables.states(data, size_N))
    assert torch.equal(tables.coordinates(data, size_N.long(), raw_R), tables.coordinates(data, size_N))


def test_raw_rows_come_back_bit_by_bit() -> None:
    tables = handmade_tables(5, inner=True)
    data, size_N = random_rows(tables, 6, 6, raw=1.0)
    assert torch.equal(tables.states(data, size_N).bfloat16().view(torch.uint8).flatten(), data)


def test_a_row_that_is_longer_than_any_takes_all_stages() -> None:
    """What `verify` would refuse is decoded without reading beyond the tables."""
    tables = handmade_tables(7, inner=True)
    size = tables.header + len(tables.band_S) + 3
    found = tables.states(torch.zeros(size, dtype=torch.uint8), torch.tensor([size]))
    assert_close(found, decode(tables, torch.zeros(size - 3, dtype=torch.uint8), torch.tensor([size - 3])))


@pytest.mark.parametrize("inner", [False, True])
def test_rows_without_a_header_read_nothing_beyond_the_end(inner: bool) -> None:
    tables = handmade_tables(7, inner=inner)
    data, size_N = random_rows(tables, 3, 8)
    short = torch.cat([data, data[:1]]), torch.cat([size_N, torch.tensor([1, 0], dtype=torch.int32)])
    torch.testing.assert_close(tables.states(*short)[:3], tables.states(data, size_N))
    assert tables.coordinates(*short).isfinite().all()


def test_a_folded_head_gives_the_logits_of_the_states_raw_ones_among_them() -> None:
    tables = handmade_tables(8)
    data, size_N = random_rows(tables, 30, 9, raw=0.2)
    assert (size_N == tables.raw_size).any()
    weight_Vd = torch.randn(50, 20, generator=torch.Generator().manual_seed(0))
    wanted = torch.from_numpy(decode(tables, data, size_N)) @ weight_Vd.double().T
    found = tables.coordinates(data, size_N) @ RVQDecoder(tables).fold(weight_Vd).T
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=1e-5 * float(wanted.abs().max()))


def test_tables_of_tensors() -> None:
    tables = handmade_tables(12, inner=True)
    tensors = {name: getattr(tables, name) for name in RVQTables.__dataclass_fields__}
    again = RVQTables.of(tensors).to(torch.device("cpu"))
    data, size_N = random_rows(tables, 5, 13)
    assert torch.equal(again.states(data, size_N), tables.states(data, size_N))
    with pytest.raises(KeyError, match="gains"):
        RVQTables.of({name: tensor for name, tensor in tensors.items() if name != "gains"})


def test_scales_count_only_where_there_are_any() -> None:
    tables = handmade_tables(14)
    data, size_N = random_rows(tables, 20, 15, raw=0.0)
    twice = replace(tables, scales_TB=2 * tables.scales_TB)
    unscaled = decode(tables, data, size_N) - tables.mean_d.double().numpy()
    assert_close(twice.states(data, size_N), tables.mean_d.double().numpy() + 2 * unscaled)

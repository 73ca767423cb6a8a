"""Rows as strings of bytes, against a decoder in plain NumPy and an exhaustive choice of lengths."""

from collections.abc import Callable
from dataclasses import fields

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.encoding.encoder import EncodedRows, Encoder
from pipeline.encoding.train import keep_energy, train_final, train_inner
from schemas.models.rvq import RVQTables
from tests.pipeline.encoding.layers import WIDTH, layer
from tests.schemas.models.naive_rvq import decode

STAGES = 20


def final() -> Encoder:
    root = torch.from_numpy(np.random.default_rng(7).standard_normal((WIDTH, WIDTH))).float()
    return train_final(layer(2000), root @ root.T / WIDTH, STAGES)


def inner() -> Encoder:
    return keep_energy(train_inner(layer(2000), STAGES).at(3e-3), layer(2000))


@pytest.fixture(scope="module", params=[final, inner])
def encoder(request: pytest.FixtureRequest) -> Encoder:
    make: Callable[[], Encoder] = request.param
    return make()


def starts(encoder: Encoder, rows: EncodedRows) -> Tensor:
    return rows.size_N.long().cumsum(0) - rows.size_N


@pytest.mark.parametrize("price", [0.0, 1e-4, 3e-3, 1.0])
def test_rows_are_decoded_as_a_plain_loop_decodes_them(encoder: Encoder, price: float) -> None:
    held_out = layer(300, seed=1).bfloat16()
    held_out[7] *= 1e30  # beyond all that was seen: kept raw
    rows = encoder.at(price).encode(held_out)
    assert rows.size_N[7] == 2 * WIDTH
    wanted = torch.from_numpy(decode(encoder.tables, rows.data, rows.size_N))
    found = encoder.tables.states(rows.data, rows.size_N)
    torch.testing.assert_close(found[8:].double(), wanted[8:], rtol=1e-4, atol=1e-3)
    assert torch.equal(found[7], held_out[7].float())


def test_a_row_stops_where_error_and_price_are_least(encoder: Encoder) -> None:
    held_out, price = layer(200, seed=2).bfloat16(), 2e-3
    codes = encoder.codes(held_out)
    rows = encoder.at(price).encode(held_out, codes)
    header = encoder.tables.header
    sizes = [*range(header, header + codes.error_NT.shape[1]), 2 * WIDTH]
    for row, errors in enumerate(codes.error_NT.tolist()):
        costs = [error + price * size for error, size in zip([*errors, 0], sizes, strict=True)]
        best = int(np.argmin(costs))
        assert int(rows.size_N[row]) == sizes[best]
        assert float(rows.error_N[row]) == pytest.approx(0 if best == len(errors) else errors[best])


def test_rows_that_no_stage_is_worth_its_price_get_no_more_and_are_nearly_the_same(encoder: Encoder) -> None:
    held_out, priced = layer(400, seed=8), encoder.at(2e-3)
    patient, whole = priced.encode(held_out), priced.encode(held_out, priced.codes(held_out))
    costs = [float(rows.error_N.sum() + 2e-3 * rows.size_N.sum()) for rows in (patient, whole)]
    assert costs[1] <= costs[0] <= 1.01 * costs[1]


def test_the_error_that_is_said_is_the_decoded_rows_own(encoder: Encoder) -> None:
    held_out = layer(200, seed=3)
    plain = Encoder(**{f.name: getattr(encoder, f.name) for f in fields(encoder)} | {"price": 1e-3})
    rows = plain.encode(held_out)
    unscaled = RVQTables(
        **{f.name: getattr(plain.tables, f.name) for f in fields(RVQTables)}
        | {"scales_TB": torch.ones_like(plain.tables.scales_TB)}
    )
    difference = (
        torch.from_numpy(decode(unscaled, rows.data, rows.size_N)) - held_out.double()
    ) @ plain.tables.encoder_dk.double()
    coded = rows.size_N != 2 * WIDTH
    gain = plain.tables.gains[rows.data[starts(plain, rows)].long()].double()
    squares = (difference.square() * plain.weight_k).sum(1)
    wanted = squares / gain.square() if plain.relative else squares / 2
    torch.testing.assert_close(rows.error_N.double()[coded], wanted[coded], rtol=1e-2, atol=1e-4)


def test_a_bound_keeps_worse_rows_raw(encoder: Encoder) -> None:
    held_out = layer(200, seed=4).bfloat16()
    loose = encoder.at(2e-2).encode(held_out)
    bound = float(loose.error_N.median())
    settings = {f.name: getattr(encoder, f.name) for f in fields(encoder)}
    strict = Encoder(**settings | {"price": 2e-2, "bound": bound}).encode(held_out)
    raw = loose.size_N == 2 * WIDTH
    assert torch.equal(strict.size_N == 2 * WIDTH, (loose.error_N > bound) | raw)


def test_a_higher_price_takes_fewer_bytes_and_more_error(encoder: Encoder) -> None:
    held_out = layer(200, seed=5)
    found = [encoder.at(price).encode(held_out) for price in (1e-4, 1e-3, 1e-2, 1e-1)]
    sizes = [len(rows.data) for rows in found]
    errors = [float(rows.error_N.mean()) for rows in found]
    assert sizes == sorted(sizes, reverse=True) and errors == sorted(errors)


@pytest.mark.parametrize("size", [1, 7, 64])
def test_bytes_do_not_depend_on_the_rows_that_a_row_is_encoded_with(encoder: Encoder, size: int) -> None:
    held_out, priced = layer(150, seed=6).bfloat16(), encoder.at(2e-3)
    held_out[[7, 8, 149]] *= 1e30  # kept raw, the last one too
    whole, parts = priced.encode(held_out), [priced.encode(some) for some in held_out.split(size)]
    assert (whole.size_N == 2 * WIDTH).sum() >= 3
    assert torch.equal(torch.cat([rows.size_N for rows in parts]), whole.size_N)
    assert torch.equal(torch.cat([rows.data for rows in parts]), whole.data)

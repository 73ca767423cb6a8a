"""A layer's encoder, learnt from calibration rows: tables, and the price of a byte that holds a tolerance.

What a price costs is measured on rows that nothing was learnt from. Stages are added until rows end well before they
run out of them; those that hardly a row reaches are dropped again.

Shapes: N rows, d hidden size.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pipeline.corpus.calibration import CalibrationSize
from pipeline.encoding.choose import LEAST, find_price
from pipeline.encoding.encoder import Encoder, RowCodes
from pipeline.encoding.head import Head
from pipeline.encoding.measure import compared_rows, geometry_error, kl_divergence
from pipeline.encoding.train import extend, keep_energy, shorten, train_final, train_inner
from pipeline.encoding.transform import fisher_metric

# Tokens. From 40,000 instead of 20,000, layers of SmolLM2 take 3 to 18 % less; 80,000 would save up to 6 % more, for a
# pass of the teacher that is twice as long, and twice the memory.
CALIBRATION = CalibrationSize(share=0.1, least=20_000, most=40_000)
METRIC_ROWS = 1024  # whose predictions make the metric
KL_LOGITS = 2**26  # per measurement: 256 rows of 262,144 tokens
FACTORS = 2  # measurements
FIRST_PRICE = 0.1  # of the tolerance
USUAL = 0.05  # tolerance, to begin with where bits are asked for
FIRST_STAGES = 0.25  # per component
ROOM = 0.8  # of the longest row: where rows are longer on average, stages are added
REACHED = 0.998  # share of the rows that get all the stages they want; about the others are kept raw


FEWER = 0.8  # of the raw rows are to be left by more stages, or no further ones are learnt for their sake


@dataclass(frozen=True)
class Goal:
    """What one layer's decoded states are to be: within a tolerance, or of so many bits."""

    tolerance: float | None = None  # nats of final states, share of the spread of cosines of inner ones
    bits: float | None = None  # per number
    bound: float = float("inf")  # of a row's error in the encoder's own measure; worse ones are kept raw


def calibrate_final(rows_Nd: Tensor, held_out_Nd: Tensor, head: Head, goal: Goal) -> Encoder:
    """Of final states in float32: decoded, their predictions have this KL divergence from the true ones."""
    metric_dd = fisher_metric(_spread(rows_Nd, METRIC_ROWS), head)
    measured_Nd = _spread(held_out_Nd, KL_LOGITS // len(head.weight_Vd))

    def fit(encoder: Encoder) -> Encoder:
        """The encoder's own errors are nats, nearly: true ones of a few rows say by what factor they are wrong."""
        codes, factor, first = encoder.codes(held_out_Nd), 1.0, FIRST_PRICE * (goal.tolerance or USUAL)

        def cost(price: float) -> float:
            return factor * float(encoder.at(price).choose(codes)[1].mean())

        for _ in range(FACTORS):
            fitted = encoder.at(_price(cost, encoder, codes, goal, first))
            encoded = fitted.encode(measured_Nd)
            decoded_Nd = fitted.tables.states(encoded.data, encoded.size_N)
            factor = float(kl_divergence(measured_Nd, decoded_Nd, head).mean() / encoded.error_N.mean().clamp_min(1e-9))
        return encoder.at(_price(cost, encoder, codes, goal, fitted.price))

    return _fit(
        train_final(rows_Nd, metric_dd.to(rows_Nd.device), _first_stages(rows_Nd)), rows_Nd, held_out_Nd, goal, fit
    )


def calibrate_inner(rows_Nd: Tensor, held_out_Nd: Tensor, goal: Goal) -> Encoder:
    """Of inner states in float32: between decoded spans, centred cosines are off by this share of their
    spread."""
    measured_Nd = held_out_Nd[compared_rows(len(held_out_Nd)).to(held_out_Nd.device)]

    def fit(encoder: Encoder) -> Encoder:
        """Cosines are asked at every price, of rows as long as the true ones."""
        codes, measured = encoder.codes(rows_Nd), encoder.codes(measured_Nd)
        left_Nk, _ = encoder.before_stages(rows_Nd)

        def at(price: float) -> Encoder:
            return keep_energy(encoder.at(price), rows_Nd, codes, left_Nk)

        def cost(price: float) -> float:
            fitted = at(price)
            encoded = fitted.encode(measured_Nd, measured)
            decoded_Nd = fitted.tables.states(encoded.data, encoded.size_N)
            found = geometry_error(measured_Nd, decoded_Nd, encoder.tables.mean_d)
            return math.inf if found is None else found  # of too few spans nothing is known: keep all that can be kept

        return at(_price(cost, encoder, measured, goal, FIRST_PRICE * (goal.tolerance or USUAL) ** 2))

    return _fit(train_inner(rows_Nd, _first_stages(rows_Nd)), rows_Nd, held_out_Nd, goal, fit)


def _fit(
    encoder: Encoder, rows_Nd: Tensor, held_out_Nd: Tensor, goal: Goal, fit: Callable[[Encoder], Encoder]
) -> Encoder:
    """The encoder at the price that `fit` finds, with as many stages as that takes."""
    share_before = 1.0
    most = encoder.tables.raw_size - encoder.tables.header - 1
    while True:
        held = len(encoder.stages.codebooks)
        fitted = fit(encoder)
        stages_N, _ = fitted.choose(fitted.codes(held_out_Nd))
        raw_N = stages_N < 0
        share = float(raw_N.float().mean())
        wanted_N = stages_N[~raw_N].float() if share < 1 else torch.full((1,), float(held))
        # Where stages are wanting, rows are dearer as codes, and many of them would be kept raw.
        enough = share <= 1 - REACHED or share > FEWER * share_before
        if held == most or (wanted_N.mean() <= ROOM * held and enough):
            # The bound comes last: with it, a dearer byte could cost less, because more rows would be raw.
            return replace(shorten(fitted, max(1, int(wanted_N.quantile(REACHED)))), bound=goal.bound)
        share_before = share
        encoder = extend(encoder, rows_Nd, min(2 * held, most))


def _price(cost: Callable[[float], float], encoder: Encoder, codes: RowCodes, goal: Goal, first: float) -> float:
    """The price that fits a tolerance, or bits; one so low that all stages are taken if none does."""
    if goal.tolerance is not None:
        return find_price(cost, goal.tolerance, first) or LEAST
    size = (goal.bits or 0) / 8 * len(encoder.tables.mean_d)

    def excess(price: float) -> float:
        stages_N, _ = encoder.at(price).choose(codes)
        size_N = torch.where(stages_N < 0, encoder.tables.raw_size, encoder.tables.header + stages_N)
        return size / float(size_N.float().mean())  # fewer bytes are dearer

    return find_price(excess, 1.0, first) or LEAST


def _first_stages(rows_Nd: Tensor) -> int:
    return max(8, round(FIRST_STAGES * rows_Nd.shape[1]))


def _spread(rows_Nd: Tensor, count: int) -> Tensor:
    """Up to `count` rows, evenly over all."""
    step = max(1, len(rows_Nd) // max(1, count))
    return rows_Nd[::step][:count]

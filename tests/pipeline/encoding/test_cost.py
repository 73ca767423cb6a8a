"""What a shard says that encoding cost it, against NumPy in float64."""

import numpy as np
import pytest
import torch

from pipeline.encoding.cost import LEAST_PREDICTED, measure_cost
from pipeline.encoding.head import Head
from pipeline.encoding.measure import COMPARED, GROUP
from pipeline.encoding.row_scaled import encode_int8
from schemas.models.decoders.int8 import Int8Decoder
from schemas.models.logits import LogitTransform
from tests.pipeline.encoding.layers import WIDTH, layer

ROWS = 4000


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(1, keepdims=True)))


def test_numbers_are_those_of_the_rows_that_are_compared() -> None:
    true, weight = layer(ROWS).bfloat16(), torch.from_numpy(np.random.default_rng(0).standard_normal((90, WIDTH)))
    encoded = encode_int8(true)
    sizes = torch.full((ROWS,), WIDTH + 4)
    decoder = Int8Decoder(Int8Decoder.values(), WIDTH)
    cost = measure_cost(true, encoded.flatten(), sizes, decoder, Head(weight.float(), None, LogitTransform()))
    decoded = decoder.states(encoded.flatten(), sizes).double().numpy()
    rows = true.double().numpy()
    assert (cost.rows, cost.raw, cost.measured) == (ROWS, 0, COMPARED)
    assert cost.bits == pytest.approx(8 * (WIDTH + 4) / WIDTH, rel=1e-4)
    spans = np.arange(COMPARED // GROUP) * (ROWS // GROUP) // (COMPARED // GROUP) * GROUP
    compared = (spans[:, None] + np.arange(GROUP)).ravel()
    assert len(set(compared.tolist())) == COMPARED and compared.max() >= ROWS - 2 * GROUP
    mean = rows[compared].mean(0)
    a, b = rows[compared] - mean, decoded[compared] - mean
    cosine = ((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).mean()
    assert cost.cosine == pytest.approx(cosine, rel=1e-4)
    apart = np.arange(0, ROWS, ROWS // LEAST_PREDICTED)
    log_p, log_q = (log_softmax(states[apart] @ weight.numpy().T) for states in (rows, decoded))
    kl = (np.exp(log_p) * (log_p - log_q)).sum(1)
    assert cost.predicted == len(apart)
    assert cost.kl_mean == pytest.approx(kl.mean(), rel=1e-2)
    assert cost.kl_p99 == pytest.approx(np.quantile(kl, 0.99), rel=1e-2)
    assert cost.kl_worst == pytest.approx(kl.max(), rel=1e-2)


def test_of_an_inner_layer_there_is_no_divergence_and_of_no_rows_nothing() -> None:
    decoder, none = Int8Decoder(Int8Decoder.values(), WIDTH), torch.empty(0, dtype=torch.uint8)
    rows = layer(30).bfloat16()
    cost = measure_cost(rows, encode_int8(rows).flatten(), torch.full((30,), WIDTH + 4), decoder, None)
    assert cost.kl_mean is None and cost.predicted == 0 and cost.geometry is not None
    empty = measure_cost(rows[:0], none, torch.empty(0, dtype=torch.int32), decoder, None)
    assert (empty.rows, empty.measured, empty.cosine, empty.bits) == (0, 0, None, 0)

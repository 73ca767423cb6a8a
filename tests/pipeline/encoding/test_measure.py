"""What encodings cost, against plain loops in float64."""

import numpy as np
import pytest
import torch

from pipeline.encoding import head as head_module
from pipeline.encoding import measure as measure_module
from pipeline.encoding.head import Head
from pipeline.encoding.measure import FEWEST, GROUP, centred_cosine, geometry_error, kl_divergence
from schemas.models.logits import LogitTransform
from tests.pipeline.encoding.layers import WIDTH, layer


def distribution(state: np.ndarray, weight: np.ndarray, bias: np.ndarray, cap: float | None) -> np.ndarray:
    logits = state @ weight.T + bias
    logits = logits if cap is None else cap * np.tanh(logits / cap)
    p = np.exp(logits - logits.max())
    return np.asarray(p / p.sum())


@pytest.mark.parametrize("tokens_at_once", [1, 7, 50, 1000])
@pytest.mark.parametrize("rows_at_once", [3, 1000])
@pytest.mark.parametrize("cap", [None, 5.0])
def test_kl_divergence_is_that_of_a_plain_loop(
    monkeypatch: pytest.MonkeyPatch, cap: float | None, rows_at_once: int, tokens_at_once: int
) -> None:
    monkeypatch.setattr(head_module, "TOKENS_AT_ONCE", tokens_at_once)
    monkeypatch.setattr(measure_module, "ROWS_AT_ONCE", rows_at_once)
    rng = np.random.default_rng(0)
    weight, bias = rng.standard_normal((50, WIDTH)), rng.standard_normal(50)
    true, decoded = 0.3 * rng.standard_normal((7, WIDTH)), 0.3 * rng.standard_normal((7, WIDTH))
    head = Head(torch.from_numpy(weight), torch.from_numpy(bias), LogitTransform(1.0, cap))
    found = kl_divergence(torch.from_numpy(true), torch.from_numpy(decoded), head)
    for row in range(7):
        p, q = (distribution(states[row], weight, bias, cap) for states in (true, decoded))
        assert float(found[row]) == pytest.approx((p * np.log(p / q)).sum(), rel=1e-4)
    of_equals = kl_divergence(torch.from_numpy(true), torch.from_numpy(true), head)
    assert float(of_equals.min()) >= 0 and float(of_equals.max()) < 1e-6


def test_kl_divergence_of_large_logits_far_apart_is_finite_and_right() -> None:
    """Every part of the vocabulary may be all but impossible beside another."""
    weight = torch.tensor([[0.0], [1000.0], [1001.0]])
    head = Head(weight, None, LogitTransform())
    found = kl_divergence(torch.ones(1, 1), torch.ones(1, 1) * 0.999, head)
    p, q = (np.exp(np.array([-1.0, 0.0]) * scale) for scale in (1, 0.999))
    p, q = p / p.sum(), q / q.sum()
    assert float(found[0]) == pytest.approx(float((p * np.log(p / q)).sum()), abs=1e-4)


def test_cosines_and_geometry_are_those_of_centred_rows() -> None:
    true = layer(30).double().numpy()
    decoded, mean = true + 0.3 * np.random.default_rng(1).standard_normal(true.shape), true.mean(0)
    mean_d = torch.from_numpy(mean).float()
    cosines = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(true - mean, decoded - mean, strict=True)]
    tensors = torch.from_numpy(true).float(), torch.from_numpy(decoded).float()
    np.testing.assert_allclose(centred_cosine(*tensors, mean_d), cosines, rtol=1e-5)

    def pairs(rows: np.ndarray) -> np.ndarray:
        spans = [(rows[i : i + GROUP] - mean).mean(0) for i in range(0, 30, GROUP)]
        units = [span / np.linalg.norm(span) for span in spans]
        return np.array([units[i] @ units[j] for i in range(10) for j in range(10) if i != j])

    a, b = pairs(true), pairs(decoded)
    wanted = np.sqrt(((a - b) ** 2).mean()) / a.std()
    assert geometry_error(*tensors, mean_d) == pytest.approx(wanted, rel=1e-4)


def test_of_few_spans_or_equal_ones_nothing_is_said() -> None:
    mean_d = torch.zeros(WIDTH)
    assert geometry_error(layer(GROUP * FEWEST - 1), layer(GROUP * FEWEST - 1), mean_d) is None
    assert geometry_error(torch.ones(60, WIDTH), layer(60), mean_d) is None
    assert geometry_error(layer(GROUP * FEWEST), layer(GROUP * FEWEST), mean_d) == 0

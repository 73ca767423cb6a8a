"""Log-probabilities in a byte each: how far what comes back is from what went in."""

import numpy as np
import pytest

from schemas.cache.kinds.next_token import NO_TAIL
from schemas.cache.packed_logprobs import pack_logprobs, unpack_logprobs


def distribution(rows: int, k: int, scale: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The k likeliest of 5,000 tokens, and all others together; float64."""
    logits = np.random.default_rng(seed).standard_normal((rows, 5000)) * scale
    logp = np.sort(logits - np.log(np.exp(logits).sum(1, keepdims=True)), axis=1)[:, ::-1]
    return logp[:, :k], np.log(np.exp(logp[:, k:]).sum(1))


@pytest.mark.parametrize("scale", [0.1, 1.0, 4.0, 8.0])
def test_what_comes_back_diverges_by_less_than_a_ten_thousandth(scale: float) -> None:
    logp, tail = distribution(200, 64, scale)
    found = unpack_logprobs(*pack_logprobs(logp, tail))
    assert found.dtype == np.float32 and found.shape == (200, 65)
    whole = np.concatenate([logp, tail[:, None]], 1)
    divergence = (np.exp(whole) * (whole - found)).sum(1)
    assert divergence.max() < 2e-4
    np.testing.assert_allclose(np.exp(found.astype(np.float64)).sum(1), 1, atol=1e-6)
    assert (np.argsort(-found[:, :64], axis=1, kind="stable") == np.arange(64)).all()  # the likeliest stay in order


def test_each_is_within_half_a_step_of_the_largest() -> None:
    logp, tail = distribution(100, 32, 3.0)
    codes, scales = pack_logprobs(logp, tail)
    assert codes[:, 0].max() == 0 and (codes[:, -1] >= 254).all()
    step = scales[:, :1].astype(np.float64)
    error = np.abs((logp - logp[:, :1]) + codes * step)
    assert (error <= step / 2 + 1e-12).all()


def test_no_tail_and_a_tail_that_holds_nearly_all() -> None:
    logp = np.log(np.array([[0.5, 0.3, 0.2], [1e-6, 1e-7, 1e-8]]))
    tail = np.array([NO_TAIL, np.log1p(-1.11e-6)])
    found = np.exp(unpack_logprobs(*pack_logprobs(logp, tail)).astype(np.float64))
    np.testing.assert_allclose(found[0], [0.5, 0.3, 0.2, 0], atol=2e-3)
    np.testing.assert_allclose(found[1], [1e-6, 1e-7, 1e-8, 1 - 1.11e-6], rtol=2e-2)


def test_equal_tokens_and_a_single_one() -> None:
    same = np.log(np.full((1, 4), 0.25))
    np.testing.assert_allclose(np.exp(unpack_logprobs(*pack_logprobs(same, np.array([NO_TAIL])))), [[0.25] * 4 + [0]])
    one = unpack_logprobs(*pack_logprobs(np.array([[np.log(0.9)]]), np.array([np.log(0.1)])))
    np.testing.assert_allclose(np.exp(one), [[0.9, 0.1]], rtol=1e-3)

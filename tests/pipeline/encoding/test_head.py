"""Logits and products of a head that is taken in parts, against the whole in float64."""

import numpy as np
import pytest
import torch

from pipeline.encoding import head as head_module
from pipeline.encoding.head import Head
from pipeline.encoding.transform import fisher_metric
from schemas.models.logits import LogitTransform


@pytest.mark.parametrize("at_once", [7, 40, 41, 1000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_parts_make_the_whole(monkeypatch: pytest.MonkeyPatch, at_once: int, dtype: torch.dtype) -> None:
    random = np.random.default_rng(0)
    weight, bias, states = random.standard_normal((40, 6)), random.standard_normal(40), random.standard_normal((5, 6))
    head = Head(torch.from_numpy(weight).to(dtype), torch.from_numpy(bias).float(), LogitTransform(0.5, 3.0))
    whole, metric = head.logits(torch.from_numpy(states)), fisher_metric(torch.from_numpy(states).float(), head)
    kept = head.weight_Vd.double().numpy()
    wanted = 3 * np.tanh(0.5 * (states.astype(np.float32) @ kept.T + bias) / 3)
    np.testing.assert_allclose(whole, wanted, rtol=1e-4, atol=1e-5)
    monkeypatch.setattr(head_module, "TOKENS_AT_ONCE", at_once)
    assert sum(len(weight_vd) for _, weight_vd in head.parts()) == 40
    torch.testing.assert_close(head.logits(torch.from_numpy(states)), whole, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(fisher_metric(torch.from_numpy(states).float(), head), metric, rtol=1e-4, atol=1e-6)

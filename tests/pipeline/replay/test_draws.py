"""Draws are right where their uniform numbers lie in their tokens' places, however rounding tipped them."""

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.replay.draws import outside
from pipeline.teacher.kinds.sampled import draw
from schemas.cache.kinds.next_token import SparseRecord
from schemas.cache.packed_draws import pack_draws, unpack_draws

ROWS, VOCABULARY, DRAWS = 50, 4000, 30


def unpacked(ids_Rn: Tensor, weights_Rn: Tensor, weighted: bool) -> tuple[Tensor, Tensor]:
    """As a cache gives them."""
    rows = pack_draws(ids_Rn.numpy(), VOCABULARY, weights_Rn.float().numpy() if weighted else None)
    ids, weights = unpack_draws(rows, DRAWS, VOCABULARY, weighted)
    return torch.from_numpy(ids).long(), torch.from_numpy(weights)


@pytest.mark.parametrize("proposal", [1.0, 0.6])
def test_noise_tips_many_draws_of_a_flat_distribution_and_moves_none_of_them_far(proposal: float) -> None:
    torch.manual_seed(0)
    record = SparseRecord(temperature=1.3, entries=DRAWS, proposal=proposal, seed=0)
    logits = torch.randn(ROWS, VOCABULARY)
    uniform = torch.from_numpy(np.random.default_rng(0).random((ROWS, DRAWS)))
    noisy = logits + 1e-2 * torch.randn_like(logits)
    ids, weights = draw((noisy / 1.3).log_softmax(-1), uniform, proposal)
    others = draw((logits / 1.3).log_softmax(-1), uniform, proposal)[0]
    assert (ids != others).float().mean() > 0.05
    cached = unpacked(ids, weights, proposal != 1)
    assert outside(*cached, logits, uniform, record).mean() < 3e-3
    assert outside(*cached, noisy, uniform, record).max() < 1e-6
    assert outside(*cached, logits.roll(1, 0), uniform, record).mean() > 5e-3
    assert outside(*cached, logits, uniform.roll(1, 0), record).mean() > 5e-3


def test_weights_of_too_few_or_too_many_draws_are_not_those_of_a_row() -> None:
    record = SparseRecord(temperature=1, entries=2, proposal=1, seed=0)
    logits, uniform = torch.zeros(1, 4), torch.tensor([[0.1, 0.6]], dtype=torch.float64)
    ids = torch.tensor([[0, 2]])
    assert outside(ids, torch.tensor([[0.5, 0.5]]), logits, uniform, record).tolist() == [0]
    assert outside(ids, torch.tensor([[0.5, 1.0]]), logits, uniform, record).tolist() == [1]
    assert outside(ids, torch.tensor([[0.5, 0.0]]), logits, uniform, record).tolist() == [1]
    assert outside(torch.tensor([[0, 3]]), torch.tensor([[0.5, 0.5]]), logits, uniform, record).tolist() == [
        pytest.approx(0.15 / 2)
    ]

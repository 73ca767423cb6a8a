"""What is made of logits is packed: sums over unpacked draws stay unbiased, and the likeliest keep their places."""

from typing import Any

import numpy as np
import pytest
import torch

from pipeline.teacher.kinds.sampled import draw, uniforms
from pipeline.teacher.kinds.top_k import top_k
from pipeline.teacher.maker import build_makers
from pipeline.teacher.packing import PackedMaker
from schemas.cache.arrays import KINDS
from schemas.cache.kinds.next_token import NextToken, SparseRecord
from schemas.cache.packed_ids import packed_bytes
from schemas.cache.ragged import RaggedRows
from schemas.cache.teacher import TeacherRecord

VOCABULARY = 400
TEACHER = TeacherRecord(model="m", kind="causal", num_layers=3, hidden_size=4, vocab_size=VOCABULARY, max_tokens=16)


def maker_of(name: str, record: SparseRecord) -> PackedMaker:
    kind = KINDS[name]
    assert isinstance(kind, NextToken)
    (maker,) = build_makers(kind.packed_arrays(record, TEACHER), {name: record})
    assert isinstance(maker, PackedMaker)
    return maker


def unpacked(name: str, record: SparseRecord, ids: torch.Tensor, values: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Ids and values after `pack` and `unpack`."""
    maker, kind = maker_of(name, record), KINDS[name]
    assert isinstance(kind, NextToken)
    paths = [array.path for array in maker.makes]
    made: dict[str, Any] = dict(zip(paths, (ids.int().numpy(), values.float().numpy()), strict=True))
    packed, _ = maker.pack(made, TEACHER)
    assert list(packed) == [array.path for array in maker.arrays]
    return kind.unpack(list(packed.values()), record, TEACHER)


def test_it_makes_plain_numbers() -> None:
    likeliest = maker_of("top_k", SparseRecord(temperature=1.0, entries=3))
    drawn = maker_of("sampled", SparseRecord(temperature=1.0, entries=5, proposal=0.8, seed=0))
    described = [(a.path, a.layer, a.width, a.dtype) for maker in (likeliest, drawn) for a in maker.makes]
    assert described == [
        ("top_k/ids", 3, 3, "int32"),
        ("top_k/logprobs", 3, 4, "float32"),
        ("sampled/ids", 3, 5, "int32"),
        ("sampled/weights", 3, 5, "float32"),
    ]


@pytest.mark.parametrize("proposal", [0.0, 0.5, 0.8, 1.0, 1.3])
def test_sums_over_unpacked_draws_are_unbiased(proposal: float) -> None:
    """E[sum_i w_i f(id_i)] = E_p[f], for random f and for the sum of the weights, within 4 standard errors; and each
    sum is that of the draws themselves, to the rounding of a weight."""
    torch.manual_seed(1)
    logp_V = (2 * torch.randn(VOCABULARY)).log_softmax(0)
    f_VF = torch.cat([torch.randn(VOCABULARY, 5), torch.ones(VOCABULARY, 1)], 1).double()
    rows, draws = 4000, 20
    ids_Rn, weights_Rn = draw(logp_V.expand(rows, -1), torch.from_numpy(uniforms("s", rows, draws, 0)), proposal)
    record = SparseRecord(temperature=1.0, entries=draws, proposal=proposal, seed=0)
    found_ids, found_weights = unpacked("sampled", record, ids_Rn, weights_Rn)
    assert (found_weights > 0).sum(1).mean() < draws - 0.1  # some are drawn twice
    exact_RF = (weights_Rn.double()[:, :, None] * f_VF[ids_Rn]).sum(1)
    found_RF = (torch.from_numpy(found_weights).double()[:, :, None] * f_VF[torch.from_numpy(found_ids).long()]).sum(1)
    largest_RF = (weights_Rn.double()[:, :, None] * f_VF[ids_Rn]).abs().sum(1)
    assert ((found_RF - exact_RF).abs() <= largest_RF * (1e-6 if proposal == 1 else 1 / 2000)).all()
    error_F = found_RF.std(0) / rows**0.5
    assert ((found_RF.mean(0) - logp_V.double().exp() @ f_VF).abs() <= 4 * error_F + 1e-6).all()


@pytest.mark.parametrize("k", [1, 12, 64, VOCABULARY])
def test_unpacked_log_probabilities_diverge_by_next_to_nothing(k: int) -> None:
    """KL of what was made from what is read; the same tokens, every one within half a step."""
    torch.manual_seed(0)
    logp_RV = (3 * torch.randn(300, VOCABULARY)).log_softmax(1)
    ids_Rk, values_RE = top_k(logp_RV, k)
    found_ids, found = unpacked("top_k", SparseRecord(temperature=1.0, entries=k), ids_Rk, values_RE)
    order_Rk = ids_Rk.argsort(1)
    np.testing.assert_array_equal(found_ids, ids_Rk.gather(1, order_Rk).numpy())
    true_RE = torch.cat([values_RE.gather(1, order_Rk), values_RE[:, -1:]], 1).double().numpy()
    divergence = (np.exp(true_RE) * (true_RE - found)).sum(1)
    assert divergence.max() < 5e-4 and divergence.mean() < 2e-4
    assert np.exp(found.astype(np.float64)).sum(1) == pytest.approx(1, abs=1e-6)


def test_what_packing_loses_is_said() -> None:
    """In nats, of every row; nothing of draws."""
    torch.manual_seed(0)
    logp_RV = (3 * torch.randn(300, VOCABULARY)).log_softmax(1)
    ids_Rk, values_RE = top_k(logp_RV, 12)
    record = SparseRecord(temperature=1.0, entries=12)
    made = {"top_k/ids": ids_Rk.int().numpy(), "top_k/logprobs": values_RE.numpy()}
    _, lost = maker_of("top_k", record).pack(made, TEACHER)
    _, found = unpacked("top_k", record, ids_Rk, values_RE)
    true_RE = torch.cat([values_RE.gather(1, ids_Rk.argsort(1)), values_RE[:, -1:]], 1).double().numpy()
    kl_R = np.sort((np.exp(true_RE) * (true_RE - found)).sum(1))
    (cost,) = lost.values()
    assert list(lost) == ["top_k/ids"] and (cost.rows, cost.raw, cost.predicted) == (300, 0, 300)
    assert cost.kl_mean == pytest.approx(kl_R.mean(), rel=1e-4) and cost.kl_worst == pytest.approx(kl_R[-1], rel=1e-4)
    assert kl_R[295] <= (cost.kl_p99 or 0) <= kl_R[297] * 1.0001
    assert cost.bits == pytest.approx(8 * (packed_bytes(12, VOCABULARY) + 12 + 4) / 13, rel=1e-4)
    drawn = SparseRecord(temperature=1.0, entries=5, proposal=0.8, seed=0)
    made = {"sampled/ids": np.ones((2, 5), np.int32), "sampled/weights": np.ones((2, 5), np.float32)}
    assert maker_of("sampled", drawn).pack(made, TEACHER)[1] == {}


def test_a_unit_without_tokens_packs_into_nothing() -> None:
    for name, record in (
        ("top_k", SparseRecord(temperature=1.0, entries=3)),
        ("sampled", SparseRecord(temperature=1.0, entries=3, proposal=0.5, seed=0)),
    ):
        maker = maker_of(name, record)
        made: dict[str, Any] = {a.path: np.empty((0, a.width or 1), a.dtype) for a in maker.makes}
        packed, lost = maker.pack(made, TEACHER)
        assert lost == {}
        for values in packed.values():
            assert len(values) == 0 and isinstance(values, RaggedRows if name == "sampled" else np.ndarray)

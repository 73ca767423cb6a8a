"""What makes the numbers of a state kind, against plain NumPy and against what chance allows."""

from typing import Any

import numpy as np
import pytest
import torch

from pipeline.teacher.kinds.sampled import draw, uniforms
from pipeline.teacher.kinds.top_k import top_k
from pipeline.teacher.maker import BatchStates, LogitsMaker, StatesMaker, build_makers
from schemas.cache.arrays import ArrayRecord
from schemas.cache.kinds.next_token import NO_TAIL, SparseRecord
from schemas.cache.kinds.pooled import PooledRecord
from tests.pipeline.teacher.tiny_models import sample


def test_the_tail_of_top_k_is_kept_however_small() -> None:
    """1 - sum p is 0 in float32 below 6e-8."""
    logits = torch.tensor([[0.0, 30.0, 1.0, 2.0], [25.0, 25.0, 5.0, -3.0], [0.0, 0.0, 0.0, 0.0]])
    for k in (1, 2, 3):
        ids, values = top_k(logits.log_softmax(1), k)
        others = logits.double().log_softmax(1).scatter(1, ids, -torch.inf).exp().sum(1).log()
        torch.testing.assert_close(values[:, -1].double(), others, atol=1e-6, rtol=1e-6)
    ids, values = top_k(logits.log_softmax(1), 4)
    assert ids.sort(1).values.tolist() == [[0, 1, 2, 3]] * 3 and (values[:, -1] == NO_TAIL).all()


@pytest.mark.parametrize("proposal", [0.0, 0.5, 0.8, 1.0, 1.3])
def test_the_estimator_is_unbiased(proposal: float) -> None:
    """E[sum_i w_i f(id_i)] = E_p[f], for random f and for the sum of the weights, within 4 standard errors."""
    torch.manual_seed(1)
    logp_V = (2 * torch.randn(40)).log_softmax(0)
    f_VF = torch.cat([torch.randn(40, 5), torch.ones(40, 1)], 1).double()
    rows = 4000
    ids_Rn, weights_Rn = draw(logp_V.expand(rows, -1), torch.from_numpy(uniforms("s", rows, 20, 0)), proposal)
    q_V = (proposal * logp_V.double()).softmax(0)
    wanted_Rn = (logp_V.double().exp() / q_V)[ids_Rn] / 20
    torch.testing.assert_close(weights_Rn.double(), wanted_Rn, rtol=1e-5, atol=0)
    estimates_RF = (weights_Rn.double()[:, :, None] * f_VF[ids_Rn]).sum(1)
    error_F = estimates_RF.std(0) / rows**0.5
    wanted_F = logp_V.double().exp() @ f_VF
    assert ((estimates_RF.mean(0) - wanted_F).abs() <= 4 * error_F + 1e-6).all()


def test_draws_are_a_running_sum_exceeded() -> None:
    """By hand: q is 1/2, 0, 1/4, 1/4; a token without probability is never drawn, not even at the ends."""
    logp = torch.tensor([[0.5, 0.0, 0.25, 0.25]]).log().clamp(min=-1e4)
    below_one = np.nextafter(1, 0)
    uniform = torch.tensor([[0.0, 0.4999, 0.5001, 0.7499, 0.7501, below_one]], dtype=torch.float64)
    ids, weights = draw(logp, uniform, 1.0)
    assert ids.tolist() == [[0, 0, 2, 2, 3, 3]]
    torch.testing.assert_close(weights, torch.full((1, 6), 1 / 6))


def test_uniforms_are_written_down() -> None:
    """The same draws on every machine, in every version."""
    first = np.array([[0.05596651261701546, 0.6708853383718683], [0.6213437409062131, 0.5428428507173593]])
    np.testing.assert_array_equal(uniforms("s1", 2, 2, 0), first)


SAMPLES = [sample("a", [5, 6, 7]), sample("b", [8])]
MASK_BT = torch.tensor([[True, True, True], [True, False, False]])


def batch_states() -> BatchStates:
    """Two samples of three tokens and of one: layer l holds the numbers from 100 l on, masses from 10 l on."""
    hidden = {layer: 100.0 * layer + torch.arange(12.0).reshape(2, 3, 2) for layer in (1, 3)}
    mass = {2: 20.0 + torch.arange(6.0).reshape(2, 3)}
    return BatchStates(hidden, mass, MASK_BT, torch.tensor([0, 1, 2, 3]))


def made(kind: str, layer: int, width: int | None, record: Any = None) -> torch.Tensor:
    array = ArrayRecord(kind=kind, layer=layer, width=width, dtype="float32")
    (maker,) = build_makers([array], {} if record is None else {kind: record})
    assert isinstance(maker, StatesMaker)
    assert (maker.hidden_layers | maker.mass_layers) == {layer}
    return maker.make(array, batch_states())


def test_states_are_the_rows_of_real_tokens() -> None:
    assert made("hidden", 3, 2).tolist() == [[300, 301], [302, 303], [304, 305], [306, 307]]
    assert made("hidden", 1, 2).tolist() == [[100, 101], [102, 103], [104, 105], [106, 107]]
    assert made("mass", 2, None).tolist() == [20, 21, 22, 23]


@pytest.mark.parametrize(
    ("pooling", "rows"),
    [
        ("mean", [[102, 103], [106, 107]]),
        ("cls", [[100, 101], [106, 107]]),
        ("last", [[104, 105], [106, 107]]),
    ],
)
def test_embeddings_are_one_row_per_sample(pooling: Any, rows: list[list[float]]) -> None:
    plain = PooledRecord(pooling=pooling, normalise=False, layer=1)
    assert made("pooled", 1, 2, plain).tolist() == rows
    unit = made("pooled", 1, 2, PooledRecord(pooling=pooling, normalise=True, layer=1))
    lengths = np.linalg.norm(np.array(rows), axis=1, keepdims=True)
    np.testing.assert_allclose(unit.numpy(), np.array(rows) / lengths, rtol=1e-6)


def test_distributions_are_cut_from_logits_row_by_row() -> None:
    """Any slices of the batch's rows give what the whole gives, and each row is softened by the record."""
    torch.manual_seed(0)
    logits_NV = torch.randn(4, 9)
    logp_NV = (logits_NV.double() / 1.7).log_softmax(-1)
    records = {
        "top_k": SparseRecord(temperature=1.7, entries=3),
        "sampled": SparseRecord(temperature=1.7, entries=5, proposal=0.6, seed=2),
    }
    arrays = [ArrayRecord(kind=f"top_k/{part}", layer=3, width=width, dtype=dtype) for part, width, dtype in TOP_K]
    arrays += [ArrayRecord(kind=f"sampled/{part}", layer=3, width=5, dtype=dtype) for part, dtype in SAMPLED]
    likeliest, drawn = (maker for maker in build_makers(arrays, records) if isinstance(maker, LogitsMaker))
    for maker in (likeliest, drawn):
        cut = maker.begin(SAMPLES, torch.device("cpu"))
        whole = cut(logits_NV, slice(0, 4))
        parts = [cut(logits_NV[rows], rows) for rows in (slice(0, 1), slice(1, 4))]
        for place, values in enumerate(whole):
            assert torch.equal(torch.cat([part[place] for part in parts]), values)
    ids_Nk, values_Nk = likeliest.begin(SAMPLES, torch.device("cpu"))(logits_NV, slice(0, 4))
    assert ids_Nk.tolist() == logp_NV.topk(3).indices.tolist()
    others_N = logp_NV.exp().sort(dim=1).values[:, :-3].sum(1).log()
    wanted = torch.cat([logp_NV.topk(3).values, others_N[:, None]], 1)
    torch.testing.assert_close(values_Nk.double(), wanted, atol=1e-6, rtol=0)
    ids_Nn, weights_Nn = drawn.begin(SAMPLES, torch.device("cpu"))(logits_NV, slice(0, 4))
    q_NV = (0.6 * logp_NV).softmax(-1)
    torch.testing.assert_close(weights_Nn.double(), (logp_NV.exp() / q_NV).gather(1, ids_Nn) / 5, rtol=1e-5, atol=0)
    uniform_Nn = np.concatenate([uniforms("a", 3, 5, 2), uniforms("b", 1, 5, 2)])
    by_hand = [[int((q.cumsum(0) <= u).sum()) for u in row] for q, row in zip(q_NV, uniform_Nn, strict=True)]
    assert ids_Nn.tolist() == by_hand


TOP_K: list[tuple[str, int, Any]] = [("ids", 3, "int32"), ("logprobs", 4, "float32")]
SAMPLED: list[tuple[str, Any]] = [("ids", "int32"), ("weights", "float32")]

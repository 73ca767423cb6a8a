"""The teacher's head: rows that pad W_U never show, and temperature, scale and soft-cap are those of the formula."""

import pytest
import torch

from schemas.cache.teacher import HeadRecord
from schemas.models.decoders.rvq import RVQDecoder
from schemas.models.teacher_head import ROWS, TeacherHead
from tests.schemas.models.naive_rvq import handmade_tables, random_rows


@pytest.mark.parametrize("vocabulary", [1, ROWS - 1, ROWS, ROWS + 1])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("scale", "softcap"), [(1.0, None), (0.25, None), (1.0, 3.0), (4.0, 3.0)])
def test_logits(vocabulary: int, bias: bool, scale: float, softcap: float | None) -> None:
    g = torch.Generator().manual_seed(0)
    weight, hidden = torch.randn(vocabulary, 5, generator=g), torch.randn(2, 3, 5, generator=g)
    bias_V = torch.randn(vocabulary, generator=g)
    head = TeacherHead(
        weight, bias_V if bias else None, HeadRecord(dtype="float32", bias=bias, scale=scale, softcap=softcap)
    )
    right = scale * (hidden.double() @ weight.double().T + bias * bias_V.double())
    right = right if softcap is None else softcap * torch.tanh(right / softcap)
    assert torch.equal(head.weight_Vd, weight)
    assert torch.equal(head.bias_V, bias_V) if head.bias_V is not None else not bias
    torch.testing.assert_close(head(hidden).double(), right, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(head(hidden, temperature=2.5).double(), right / 2.5, rtol=1e-5, atol=1e-6)
    ids = torch.tensor([vocabulary - 1, 0])
    torch.testing.assert_close(head(hidden, ids).double(), right[..., ids], rtol=1e-5, atol=1e-6)


def test_gradients_reach_the_states_through_a_soft_cap() -> None:
    head = TeacherHead(torch.randn(3, 5), None, HeadRecord(dtype="float32", bias=False, softcap=2.0))
    hidden = torch.randn(2, 5, requires_grad=True)
    head(hidden).sum().backward()
    slope = 1 - (hidden.detach() @ head.weight_Vd.T / 2).tanh().square()
    torch.testing.assert_close(hidden.grad, slope @ head.weight_Vd)


def test_a_folded_head_takes_coordinates_and_keeps_bias_scale_and_soft_cap() -> None:
    tables, g = handmade_tables(0), torch.Generator().manual_seed(0)
    data, size_N = random_rows(tables, 9, 1, raw=0.0)
    record = HeadRecord(dtype="float32", bias=True, scale=0.5, softcap=30.0)
    head = TeacherHead(torch.randn(7, 20, generator=g), torch.randn(7, generator=g), record)
    folded = head.folded(RVQDecoder(tables))
    wanted, found = head(tables.states(data, size_N)), folded(tables.coordinates(data, size_N))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    assert folded.vocabulary == 7 and folded.weight_Vd.shape == (7, len(tables.basis_kd))
    # A sum of fractions of states that is less than one: the mean counts as much less.
    y_NK, ids = tables.coordinates(data, size_N), torch.tensor([5, 0])
    torch.testing.assert_close(folded(0.3 * y_NK), head(0.3 * tables.states(data, size_N)), rtol=1e-4, atol=1e-4)
    for whole, hidden in ((head, tables.states(data, size_N)), (folded, y_NK)):
        torch.testing.assert_close(whole.restricted(ids)(hidden), whole(hidden, ids))


def test_students_of_one_vocabulary_have_one_restricted_head() -> None:
    head = TeacherHead(torch.randn(7, 5), None, HeadRecord(dtype="float32", bias=False))
    part = head.restricted(torch.tensor([5, 0]))
    assert head.restricted(torch.tensor([5, 0])) is part
    assert head.restricted(torch.tensor([0, 5])) is not part

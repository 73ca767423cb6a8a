"""forward_kl against autograd over plain log_softmax, however rows and columns are chosen and cut into chunks."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.objectives import divergence
from trainer.objectives.divergence import forward_kl, kl_and_gradient
from trainer.objectives.pooled_rows import Columns, Rows


def plain(logits, rows, columns, teacher, factor, temperature):
    pooling = torch.zeros(rows.num_rows, len(logits), dtype=logits.dtype)
    pooling[rows.row_P, rows.position_P] = rows.share_P
    ids = columns.ids if columns.ids is not None else torch.arange(columns.count)
    log_q = ((pooling @ logits)[:, ids] / temperature).log_softmax(-1)
    log_p = (teacher / temperature).log_softmax(-1)
    return (factor * (log_p.exp() * (log_p - log_q)).sum(-1)).sum()


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    members=st.lists(st.integers(1, 4), min_size=0, max_size=9),
    vocab=st.integers(1, 12),
    chosen=st.sampled_from(["all", "first", "ids"]),
    chunk=st.integers(1, 40),
    temperature=st.sampled_from([0.5, 1.0, 2.0]),
)
def test_value_and_gradient(seed, members, vocab, chosen, chunk, temperature):
    g = torch.Generator().manual_seed(seed)
    rand = lambda *shape: torch.rand(*shape, generator=g, dtype=torch.float64)  # noqa: E731
    num_members = sum(members)
    logits = (6 * rand(num_members + 3, vocab)).requires_grad_()
    row_P = torch.repeat_interleave(torch.arange(len(members)), torch.tensor(members, dtype=torch.long))
    share = 0.1 + rand(num_members)
    share = share / torch.zeros(len(members), dtype=torch.float64).index_add(0, row_P, share)[row_P]
    rows = Rows(torch.randperm(num_members + 3, generator=g)[:num_members], row_P, share, len(members))
    count = vocab if chosen == "all" else int(torch.randint(1, vocab + 1, (), generator=g))
    columns = Columns(count, torch.randperm(vocab, generator=g)[:count] if chosen == "ids" else None)
    teacher, factor = 6 * rand(len(members), count), rand(len(members))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(divergence, "PRODUCT_CPU", chunk)
        found = forward_kl(logits, rows, columns, lambda r: teacher[r] / temperature, factor, temperature)
        (gradient,) = torch.autograd.grad(3.0 * found, logits)
    wanted = plain(logits, rows, columns, teacher, factor, temperature)
    (right,) = torch.autograd.grad(3.0 * wanted, logits)
    torch.testing.assert_close(found, wanted.detach(), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(gradient, right, rtol=1e-9, atol=1e-12)


def test_large_logits_stay_stable():
    logits = torch.tensor([[1e4, 0.0, -1e4]], requires_grad=True)
    rows = Rows(torch.tensor([0]), torch.tensor([0]), torch.ones(1), 1)
    kl = forward_kl(logits, rows, Columns(3), lambda r: torch.tensor([[0.0, 50.0, 0.0]])[r].clone(), torch.ones(1), 1.0)
    kl.backward()
    assert kl.item() == pytest.approx(1e4, rel=1e-6)
    torch.testing.assert_close(logits.grad, torch.tensor([[1.0, -1.0, 0.0]]))


@pytest.mark.parametrize(("offset", "teacher_offset"), [(0, 0), (-90, 0), (0, -90), (3000, 3000)])
@pytest.mark.parametrize("noise", [0.3, 4.0])
def test_in_float32_it_errs_no_more_than_log_softmax_does(offset, teacher_offset, noise):
    g = torch.Generator().manual_seed(0)
    student = 4 * torch.randn(64, 3000, generator=g, dtype=torch.float64)
    teacher = student + noise * torch.randn(64, 3000, generator=g, dtype=torch.float64) + teacher_offset
    student = student + offset
    student, teacher = student.float(), teacher.float()

    def usual(s, t):
        s = s.requires_grad_()
        log_q, log_p = s.log_softmax(-1), t.log_softmax(-1)
        kl = (log_p.exp() * (log_p - log_q)).sum(-1)
        return kl.detach().double(), torch.autograd.grad(kl.sum(), s)[0].double()

    gradient = torch.empty_like(student)
    kl = kl_and_gradient(student.clone(), teacher.clone(), gradient)
    usual_in_float32, truth = usual(student.clone(), teacher), usual(student.double(), teacher.double())
    levels = abs(np.spacing(np.float32(offset - teacher_offset)))  # what the value, not the gradient, may lose to them
    for found, theirs, right, more in zip((kl, gradient), usual_in_float32, truth, (levels, 0.0), strict=True):
        assert abs(found - right).max() <= max(1e-6 * right.abs().max(), 2 * abs(theirs - right).max()) + more


def test_teacher_logits_are_asked_for_within_the_budget(monkeypatch):
    monkeypatch.setattr(divergence, "PRODUCT_CPU", 64)
    asked = []
    rows = Rows(torch.arange(20), torch.arange(20), torch.ones(20), 20)

    def teacher(chunk):
        asked.append(chunk.stop - chunk.start)
        return torch.zeros(asked[-1], 10)

    forward_kl(torch.zeros(20, 10), rows, Columns(10), teacher, torch.ones(20), 1.0)
    assert asked == [6, 6, 6, 2]


def test_the_gradient_is_handed_over_once():
    logits = torch.zeros(2, 3, requires_grad=True)
    rows = Rows(torch.arange(2), torch.arange(2), torch.ones(2), 2)
    kl = forward_kl(logits, rows, Columns(3), lambda r: torch.randn(2, 3)[r], torch.ones(2), 1.0)
    kl.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="handed over already"):
        kl.backward()


def test_equal_distributions_have_no_divergence():
    logits = torch.randn(5, 11, requires_grad=True)
    rows = Rows(torch.arange(5), torch.arange(5), torch.ones(5), 5)
    kl = forward_kl(logits, rows, Columns(11), lambda r: logits.detach()[r] / 2, torch.ones(5), 2.0)
    kl.backward()
    assert abs(kl.item()) < 1e-6
    assert logits.grad.abs().max() < 1e-8

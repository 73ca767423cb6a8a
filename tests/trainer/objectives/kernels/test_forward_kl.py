"""forward_kl against autograd over plain log_softmax, however rows and columns are chosen and cut into chunks."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from schemas.configs.losses.kd import KDConfig
from tests.trainer.objectives.precision import gradient_of
from trainer.objectives.kernels.carried import CarriedCrossEntropy
from trainer.objectives.kernels.chunks import ON_CPU
from trainer.objectives.kernels.divergences import choose_divergence
from trainer.objectives.kernels.forward_kl import forward_kl, kl_and_powers
from trainer.objectives.kernels.next_token import next_token_logprobs_of
from trainer.objectives.kernels.pooled_rows import Columns, Rows
from trainer.objectives.kernels.powers import Powers
from trainer.objectives.kernels.row_losses import row_losses
from trainer.objectives.kernels.teacher_rows import exact_rows


def plain(logits: Tensor, rows: Any, columns: Any, teacher: Tensor, factor: Any, temperature: float) -> Any:
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
def test_value_and_gradient(
    seed: int, members: list[int], vocab: int, chosen: Any, chunk: int, temperature: float
) -> None:
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
    chunks = replace(ON_CPU, product=chunk)
    found = forward_kl(logits, rows, columns, lambda r: teacher[r] / temperature, factor, temperature, chunks=chunks)
    (gradient,) = torch.autograd.grad(3.0 * found, logits)
    wanted = plain(logits, rows, columns, teacher, factor, temperature)
    (right,) = torch.autograd.grad(3.0 * wanted, logits)
    torch.testing.assert_close(found, wanted.detach(), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(gradient, right, rtol=1e-9, atol=1e-12)


def test_large_logits_stay_stable() -> None:
    logits = torch.tensor([[1e4, 0.0, -1e4]], requires_grad=True)
    rows = Rows(torch.tensor([0]), torch.tensor([0]), torch.ones(1), 1)
    kl = forward_kl(logits, rows, Columns(3), lambda r: torch.tensor([[0.0, 50.0, 0.0]])[r].clone(), torch.ones(1), 1.0)
    kl.backward()
    assert kl.item() == pytest.approx(1e4, rel=1e-6)
    torch.testing.assert_close(logits.grad, torch.tensor([[1.0, -1.0, 0.0]]))


@pytest.mark.parametrize(("offset", "teacher_offset"), [(0, 0), (-90, 0), (0, -90), (3000, 3000)])
@pytest.mark.parametrize("noise", [0.3, 4.0])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_in_float32_it_errs_no_more_than_log_softmax_does(
    offset: float, teacher_offset: float, noise: float, temperature: float
) -> None:
    g = torch.Generator().manual_seed(0)
    student = 4 * torch.randn(512, 3000, generator=g, dtype=torch.float64)
    teacher = student + noise * torch.randn(512, 3000, generator=g, dtype=torch.float64) + teacher_offset
    student = student + offset
    student, teacher = student.float(), teacher.float()

    def usual(s: Tensor, t: Tensor) -> Any:
        scaled = (s / temperature).requires_grad_()
        log_q, log_p = scaled.log_softmax(-1), t.log_softmax(-1)
        kl = (log_p.exp() * (log_p - log_q)).sum(-1)
        return kl.detach().double(), torch.autograd.grad(kl.sum(), scaled)[0].double()

    kl, of_student, of_teacher = kl_and_powers(student, teacher.clone(), temperature)
    gradient = of_student.power_nN / of_student.sum_n1 - of_teacher.power_nN / of_teacher.sum_n1
    usual_in_float32, truth = usual(student.clone(), teacher), usual(student.double(), teacher.double())
    for found, theirs, right in zip((kl, gradient), usual_in_float32, truth, strict=True):
        ours, others, size = (x.view(len(x), -1).norm(dim=1) for x in (found - right, theirs - right, right))
        # Which of two roundings is luckier is chance, on each kind of processor another: a few per cent over 512 rows,
        # and more in the worst of them.
        assert ours.mean() <= max(1e-7 * size.mean(), 1.05 * others.mean())
        assert ours.max() <= max(1e-7 * size.max(), 2 * others.max())


@pytest.mark.parametrize("weight", [1.0, 0.3])
def test_in_bfloat16_gradients_are_rounded_once(weight: float) -> None:
    """No worse than autograd over float32 logits made of the same bfloat16 ones."""
    g = torch.Generator().manual_seed(0)
    exact = 3 * torch.randn(64, 500, generator=g)
    teacher = exact + torch.randn(64, 500, generator=g)
    exact = exact.bfloat16()
    one, positions = torch.ones(64), torch.arange(64)
    rows = Rows(positions, positions, one, 64)

    def usual(logits: Tensor) -> Any:
        log_p, log_q = (
            teacher.log_softmax(-1),
            logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1),
        )
        return (log_p.exp() * (log_p - log_q)).sum()

    def kernel(logits: Tensor) -> Any:
        return forward_kl(logits, rows, Columns(500), lambda chunk: teacher[chunk].clone(), one, 1.0)

    def each_row(logits: Tensor) -> Any:
        row_loss = exact_rows(lambda chunk: teacher[chunk], 500, 1.0, choose_divergence(KDConfig()))
        return row_losses(logits, positions, 500, row_loss)

    def gradient(loss: Any, logits: Tensor) -> Any:
        logits = logits.clone().requires_grad_()
        (found,) = torch.autograd.grad(weight / 64 * loss(logits), logits)
        assert found.dtype == logits.dtype
        return found.double()

    right, theirs = gradient(usual, exact.double()), gradient(usual, exact)
    for loss in (kernel, each_row):
        assert (gradient(loss, exact) - right).norm() <= 1.01 * (theirs - right).norm()


def test_there_is_no_second_derivative() -> None:
    """Rather than a wrong one, or none without a word."""
    logits = torch.randn(2, 3, requires_grad=True)
    rows = Rows(torch.arange(2), torch.arange(2), torch.ones(2), 2)
    teacher = torch.randn(2, 3)
    row_loss = exact_rows(lambda chunk: teacher[chunk], 3, 1.0, choose_divergence(KDConfig()))
    for loss in (
        forward_kl(logits, rows, Columns(3), lambda chunk: teacher[chunk].clone(), torch.ones(2), 1.0),
        row_losses(logits, torch.arange(2), 3, row_loss),
        next_token_logprobs_of(logits, torch.arange(2), torch.tensor([1, 2]), None)[0].sum(),
    ):
        (gradient,) = torch.autograd.grad(loss.square(), logits, create_graph=True)
        with pytest.raises(RuntimeError, match="differentiate twice"):
            gradient.square().sum().backward()


def test_teacher_logits_are_asked_for_within_the_budget() -> None:
    asked = []
    rows = Rows(torch.arange(20), torch.arange(20), torch.ones(20), 20)

    def teacher(chunk: slice) -> Any:
        asked.append(chunk.stop - chunk.start)
        return torch.zeros(asked[-1], 10)

    chunks = replace(ON_CPU, product=64)
    forward_kl(torch.zeros(20, 10), rows, Columns(10), teacher, torch.ones(20), 1.0, chunks=chunks)
    assert asked == [6, 6, 6, 2]


class CountedRows(Rows):
    """Remembers the size of every block that it was asked for."""

    def members(self, rows: slice) -> slice:
        blocks.append(rows.stop - rows.start)
        return super().members(rows)


class CountedEntropy(CarriedCrossEntropy):
    """Remembers how many positions came at once."""

    def add_labels(self, positions: slice | Tensor, powers: Powers, gradient_pV: Tensor) -> None:
        positions_at_once.append(len(gradient_pV))
        super().add_labels(positions, powers, gradient_pV)


blocks: list[int] = []
positions_at_once: list[int] = []


@pytest.mark.parametrize(("vocabulary", "sizes"), [(12, [6, 6, 1]), (48, [5, 5, 3]), (60, [4, 4, 4, 1])])
def test_a_block_is_bounded_by_both_sides(vocabulary: int, sizes: list[int]) -> None:
    """64 numbers: ten compared columns, or a quarter of the student's."""
    blocks.clear()
    rows = CountedRows(torch.arange(13), torch.arange(13), torch.ones(13), 13)
    chunks = replace(ON_CPU, block=64)
    logits = torch.zeros(13, vocabulary)
    forward_kl(logits, rows, Columns(10), lambda r: torch.zeros(13, 10)[r], torch.ones(13), 1.0, chunks=chunks)
    assert blocks == [13, *sizes]  # the product is one


def test_what_only_cross_entropy_wants_comes_in_blocks_too() -> None:
    """Positions 3 to 9 are in no row; all except 4 and 6 have a label."""
    positions_at_once.clear()
    rows, logits = Rows(torch.arange(3), torch.arange(3), torch.ones(3), 3), torch.zeros(10, 12, requires_grad=True)
    wanted = torch.tensor([place not in (4, 6) for place in range(10)])
    carried = CountedEntropy(torch.arange(10), wanted, 0.5, 1.0, logits)
    chunks = replace(ON_CPU, block=24)
    kl = forward_kl(logits, rows, Columns(12), lambda r: torch.zeros(3, 12)[r], torch.ones(3), 1.0, carried, 1, chunks)
    assert positions_at_once == [2, 1, 2, 2, 1]
    assert carried.total.item() == pytest.approx(8 * math.log(12))
    (gradient,) = torch.autograd.grad(kl + 0.5 * carried.total, logits)
    right = 0.5 * (torch.full((10, 12), 1 / 12) - torch.eye(10, 12)) * wanted[:, None]
    torch.testing.assert_close(gradient, right)


def test_kl_by_hand() -> None:
    """The teacher's logits come divided by the temperature, the student's do not."""
    student, teacher = torch.tensor([[2.0, 0.0]]).double(), torch.tensor([[0.0, 1.0]]).double()
    for level in (0.0, 7.0, -30.0):  # near 0, and far from it
        kl, of_student, of_teacher = kl_and_powers(student + level, teacher + level, 2.0)
        p, q = teacher.softmax(-1), (student / 2).softmax(-1)
        torch.testing.assert_close(kl, (p * (p / q).log()).sum(-1))
        torch.testing.assert_close(of_student.power_nN / of_student.sum_n1, q)
        torch.testing.assert_close(of_teacher.power_nN / of_teacher.sum_n1, p)


def test_the_gradient_is_handed_over_once() -> None:
    logits = torch.zeros(2, 3, requires_grad=True)
    rows = Rows(torch.arange(2), torch.arange(2), torch.ones(2), 2)
    kl = forward_kl(logits, rows, Columns(3), lambda r: torch.randn(2, 3)[r], torch.ones(2), 1.0)
    kl.backward(retain_graph=True)
    with pytest.raises(RuntimeError) as refused:
        kl.backward()
    assert str(refused.value) == "the gradient of this pass was handed over already; compute the loss again"


def test_equal_distributions_have_no_divergence() -> None:
    logits = torch.randn(5, 11, requires_grad=True)
    rows = Rows(torch.arange(5), torch.arange(5), torch.ones(5), 5)
    kl = forward_kl(logits, rows, Columns(11), lambda r: logits.detach()[r] / 2, torch.ones(5), 2.0)
    kl.backward()
    assert abs(kl.item()) < 1e-6
    assert gradient_of(logits).abs().max() < 1e-8

"""Kernels for a GPU, run by Triton's interpreter: against float64, and losses by them against losses without."""

import importlib
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from schemas.models.logits import LogitTransform
from trainer.objectives.kernels import carried, forward_kl, fused, row_pass
from trainer.objectives.kernels.carried import CarriedCrossEntropy
from trainer.objectives.kernels.chunks import ON_CPU
from trainer.objectives.kernels.fused import Entropy, Spread
from trainer.objectives.kernels.pooled_rows import Columns, Rows
from trainer.student.logits import Logits

V, BLOCK = 150, 128  # two blocks, the second of which is not full
ALL, FIRST, SOME = (Columns(V), Columns(97), Columns(60, torch.randperm(V, generator=torch.manual_seed(1))[:60]))


@pytest.fixture
def interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels take what is in the CPU's memory. With a GPU, `make gpu` shows what they give there."""
    pytest.importorskip("triton", reason="needs the package triton, which there is for Linux on x86-64 and ARM")
    if not os.environ.get("TRITON_INTERPRET"):
        pytest.skip("kernels are compiled here: set TRITON_INTERPRET=1")
    monkeypatch.setattr(importlib.import_module("trainer.objectives.kernels.triton_rows"), "BLOCK", BLOCK)


@pytest.fixture
def on_a_gpu(interpreted: None, monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Whether losses take the kernels."""

    def choose(taken: bool) -> None:
        for module in (carried, forward_kl, row_pass):
            monkeypatch.setattr(module, "is_fused", lambda logits: taken)

    return choose


def drawn(*shape: int, seed: int = 0, size: float = 5.0) -> Tensor:
    return size * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def entropy_of(rows: int) -> Entropy:
    g = torch.Generator().manual_seed(2)
    return Entropy(torch.randint(0, V, (rows,), generator=g), torch.rand(rows, generator=g))


def plain_kl(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    log_q, log_p = (student / temperature).log_softmax(-1), teacher.double().log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def plain_entropy(logits: Tensor, entropy: Entropy) -> Tensor:
    return -logits.log_softmax(-1).gather(1, entropy.label_p[:, None])[:, 0]


@pytest.mark.parametrize("size", [5.0, 300.0], ids=["usual", "far apart"])
@pytest.mark.parametrize("count", [V, 97, 1])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_kl_of_rows(interpreted: None, size: float, count: int, temperature: float) -> None:
    logits, teacher, entropy = drawn(4, V, size=size), drawn(4, count, seed=1, size=size), entropy_of(4)
    scale = torch.tensor([1.0, 0.5, 0.0, 2.0])
    wanted = logits.double().requires_grad_()
    kl, nll = plain_kl(wanted[:, :count], teacher, temperature), plain_entropy(wanted, entropy)
    (temperature * scale * kl + entropy.scale_p * nll).sum().backward()

    found_kl, found_nll = fused.kl_rows(logits, teacher, scale, temperature, logits, entropy)
    torch.testing.assert_close(found_kl.double(), kl.detach(), rtol=2e-6, atol=1e-6 * size)
    torch.testing.assert_close(found_nll.double(), nll.detach(), rtol=2e-6, atol=1e-6)
    torch.testing.assert_close(logits.double(), wanted.grad, rtol=0, atol=1e-7 * size)


def test_a_row_far_from_0_keeps_its_digits_at_any_temperature(interpreted: None) -> None:
    """A softmax sees differences alone, which are exact here: every logit is a multiple of 2^-9."""
    logits, teacher = (drawn(2, V, seed=seed).mul(512).round() / 512 for seed in (0, 1))
    wanted_kl, each = plain_kl(logits.double(), teacher, 0.7), torch.arange(3)
    wanted = (logits.double() / 0.7).softmax(-1) - teacher.double().softmax(-1)
    for found_kl, found in (
        (fused.kl_rows(logits + 8192, teacher, torch.ones(2), 0.7, out := torch.empty_like(logits))[0], out),
        (fused.pooled_kl_rows(logits + 8192, each, torch.ones(2), None, out := teacher.clone(), 0.7), out),
    ):
        torch.testing.assert_close(found_kl.double(), wanted_kl, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(found.double(), wanted, rtol=0, atol=5e-7)


def test_tokens_that_cannot_be_said_and_labels_that_are_none(interpreted: None) -> None:
    logits, label = drawn(3, V), torch.tensor([140, -100, V])
    logits[:, : BLOCK + 2] = -torch.inf
    wanted = logits.double().requires_grad_()
    nll = plain_entropy(wanted[:1], Entropy(label[:1], torch.ones(1)))
    nll.sum().backward()
    found = fused.entropy_rows(logits, logits, Entropy(label, torch.tensor([1.0, 0, 0])))
    torch.testing.assert_close(found[:1].double(), nll.detach(), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(logits.double(), wanted.grad, rtol=0, atol=1e-7)
    assert found[1:].isnan().all()


@pytest.mark.parametrize("columns", [ALL, FIRST, SOME], ids=["all", "first", "some"])
def test_kl_of_pooled_rows_and_its_way_back(interpreted: None, columns: Columns) -> None:
    logits, entropy = drawn(6, V), entropy_of(6)
    first, row = torch.tensor([0, 1, 3, 6]), torch.tensor([0, 1, 1, 2, 2, 2])
    share, factor = torch.rand(6, generator=torch.manual_seed(3)), torch.tensor([1.0, 0.3, 2.0])
    teacher = drawn(3, columns.count, seed=4)
    wanted = logits.double().requires_grad_()
    pooled = torch.zeros(3, V, dtype=torch.float64).index_add(0, row, wanted * share[:, None])
    kl, nll = plain_kl(columns.take(pooled), teacher, 2.0), plain_entropy(wanted, entropy)
    ((factor * kl).sum() + (entropy.scale_p * nll).sum()).backward()

    gradient = teacher.clone()
    found_kl = fused.pooled_kl_rows(logits, first, share, columns.ids, gradient, 2.0)
    column = columns.column_of(V, -1, logits.device).int()
    found_nll = fused.entropy_rows(logits, logits, entropy, Spread(gradient, row, factor[row] * share / 2.0, column))
    torch.testing.assert_close(found_kl.double(), kl.detach(), rtol=2e-6, atol=2e-6)
    torch.testing.assert_close(found_nll.double(), nll.detach(), rtol=2e-6, atol=1e-6)
    torch.testing.assert_close(logits.double(), wanted.grad, rtol=0, atol=5e-7)


def test_the_gradient_is_rounded_once(interpreted: None) -> None:
    logits, entropy = drawn(3, V).bfloat16(), entropy_of(3)
    wanted = logits.double().requires_grad_()
    (entropy.scale_p * plain_entropy(wanted, entropy)).sum().backward()
    fused.entropy_rows(logits, logits, entropy)
    assert wanted.grad is not None
    # A step of bfloat16: the interpreter cuts off what a GPU rounds.
    torch.testing.assert_close(logits.double(), wanted.grad, rtol=2**-7, atol=1e-8)


def student(kind: str) -> Logits:
    hidden, weight = drawn(1, 8, 16, size=1.0), drawn(V, 16, seed=5, size=0.5)
    match kind:
        case "softcap":
            return Logits(hidden, weight, transform=LogitTransform(softcap=3.0))
        case "bias and scale":
            return Logits(hidden, weight, drawn(V, seed=6, size=1.0), LogitTransform(scale=0.5))
        case "bfloat16":
            return Logits(hidden.bfloat16(), weight)
        case _:
            return Logits(drawn(1, 8, V))


POSITIONS = torch.tensor([2, 3, 4, 0, 7])
SINGLE = Rows(POSITIONS, torch.arange(5), torch.ones(5), 5)
PARTS = Rows(POSITIONS, torch.arange(5), torch.tensor([0.5, 1, 1, 1, 0.2]), 5, whole=False)
POOLED = Rows(POSITIONS, torch.tensor([0, 0, 1, 2, 2]), torch.tensor([0.25, 0.75, 1, 0.4, 0.6]), 3)


@pytest.mark.parametrize(
    ("kind", "rows", "columns", "temperature", "carries"),
    [
        ("float32", SINGLE, ALL, 1.0, True),
        ("bfloat16", SINGLE, ALL, 1.0, True),
        ("bias and scale", SINGLE, FIRST, 2.0, True),
        ("softcap", SINGLE, SOME, 1.0, False),
        ("bias and scale", PARTS, ALL, 0.5, True),
        ("float32", POOLED, SOME, 2.0, True),
        ("bfloat16", POOLED, SOME, 2.0, True),
        ("bias and scale", POOLED, ALL, 1.0, False),
    ],
    ids=["kd", "kd-bfloat16", "kd-first", "ids", "parts", "sra", "sra-bfloat16", "pooled"],
)
def test_a_loss_is_what_it_is_on_a_cpu(
    on_a_gpu: Callable[[bool], None], kind: str, rows: Rows, columns: Columns, temperature: float, carries: bool
) -> None:
    label = torch.arange(8) * 11
    wanted = torch.tensor([True, True, False, True, True, False, True, True])
    teacher, factor = drawn(rows.num_rows, columns.count, seed=7), torch.rand(rows.num_rows)

    def run(taken: bool) -> list[Any]:
        on_a_gpu(taken)
        made = student(kind)
        leaves = [x.requires_grad_() for x in (made.hidden, made.weight_Vd, made.bias_V) if x is not None]
        entropy = CarriedCrossEntropy(label, wanted, 0.3, 0.7, made) if carries else None
        chunks = replace(ON_CPU, product=3 * V)
        kl = forward_kl.forward_kl(
            made, rows, columns, lambda r: teacher[r].clone(), factor, temperature, entropy, chunks=chunks
        )
        loss = kl if entropy is None else 0.7 * kl + 0.3 * entropy.total
        return [loss.detach(), *torch.autograd.grad(loss, leaves)]

    # The head multiplies with a gradient in bfloat16, which the interpreter rounds otherwise.
    relative, absolute = (2e-2, 2e-3) if kind == "bfloat16" else (1e-5, 1e-6)
    for found, expected in zip(run(True), run(False), strict=True):
        torch.testing.assert_close(found, expected, rtol=relative, atol=absolute)


def test_cross_entropy_alone(on_a_gpu: Callable[[bool], None]) -> None:
    label, wanted = torch.arange(8) * 11, torch.arange(8) % 3 > 0

    def run(taken: bool) -> list[Tensor]:
        on_a_gpu(taken)
        made = student("bias and scale")
        leaves = [made.hidden.requires_grad_(), made.weight_Vd.requires_grad_()]  # type: ignore[union-attr]
        loss = row_pass.pass_entropy(made, CarriedCrossEntropy(label, wanted, 1.0, 1.0, made))
        return [loss.detach(), *torch.autograd.grad(loss, leaves)]

    for found, expected in zip(run(True), run(False), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def column(x: Tensor) -> Tensor:
    """The same numbers, with others between them."""
    return torch.stack([x, x.flip(0)], 1)[:, 0]


def test_numbers_with_others_between_them(on_a_gpu: Callable[[bool], None]) -> None:
    on_a_gpu(True)
    logits, label, wanted = drawn(8, V), torch.arange(8) * 11, torch.arange(8) != 2
    teacher, factor, ids = drawn(3, 60, seed=7), torch.rand(3), SOME.ids
    assert ids is not None

    def run(lies: Callable[[Tensor], Tensor], logits: Tensor, teacher: Tensor) -> list[Tensor]:
        rows, leaf = replace(POOLED, share_P=lies(POOLED.share_P)), logits.requires_grad_()
        entropy = CarriedCrossEntropy(lies(label), lies(wanted), 1.0, 1.0, leaf)
        kl = forward_kl.forward_kl(leaf, rows, Columns(60, lies(ids)), teacher.__getitem__, lies(factor), 2.0, entropy)
        (kl + entropy.total).backward()
        assert leaf.grad is not None
        return [kl.detach(), entropy.total.detach(), leaf.grad]

    expected = run(lambda x: x, logits.clone(), teacher.clone())
    for found, one in zip(run(column, logits.T.clone().T, teacher.T.clone().T), expected, strict=True):
        assert torch.equal(found, one)


@pytest.mark.parametrize("shape", [(5, V - 1), (5, V + 1), (1, V)])
def test_a_teacher_of_another_shape_is_refused(on_a_gpu: Callable[[bool], None], shape: tuple[int, int]) -> None:
    on_a_gpu(True)
    with pytest.raises(ValueError, match=r"are \[\d, 1\d+\], where \[rows, columns\] are \[5, 150\]"):
        forward_kl.forward_kl(drawn(8, V), SINGLE, ALL, lambda r: torch.zeros(shape), torch.ones(5), 1.0)


def failing(error: Exception) -> Callable[..., None]:
    def fail(*arguments: Any) -> None:
        raise error

    return fail


def test_memory_that_ran_out_is_no_lack_of_triton(
    interpreted: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    has_triton, cpu = fused._has_triton.__wrapped__, torch.device("cpu")
    assert has_triton(cpu)
    for error in (torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("Triton Error [CUDA]: out of memory")):
        monkeypatch.setattr(fused, "entropy_rows", failing(error))
        with pytest.raises(RuntimeError, match="out of memory"):
            has_triton(cpu)
    assert not caplog.messages
    monkeypatch.setattr(fused, "entropy_rows", failing(RuntimeError("Failed to find C compiler.\nMore")))
    assert not has_triton(cpu)
    assert "Triton cannot compile here (RuntimeError: Failed to find C compiler.). It takes" in caplog.text


def test_a_cpu_takes_none() -> None:
    assert not fused.is_fused(torch.zeros(2, 3))

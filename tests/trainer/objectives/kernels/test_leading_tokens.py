"""The tokens that a sample's rows favour most, and their log-probabilities, against autograd over whole matrices."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from trainer.objectives.kernels.chunks import ON_CPU
from trainer.objectives.kernels.leading_tokens import leading_tokens, log_probabilities

COUNTS, VOCABULARY, K, TEMPERATURES = [3, 0, 1, 4], 7, 3, [2.0, 0.5]


def logits(dtype: torch.dtype = torch.float64, rows: int = sum(COUNTS)) -> Tensor:
    return (3 * torch.randn(rows, VOCABULARY, generator=torch.Generator().manual_seed(5), dtype=torch.float64)).to(
        dtype
    )


@pytest.mark.parametrize("rows", [1, 2 * VOCABULARY, 1 << 22])
def test_the_leading_tokens_of_each_sample(rows: int) -> None:
    whole, asked = logits(), list[int]()

    def some(chunk: slice) -> Tensor:
        asked.append(chunk.stop - chunk.start)
        return whole[chunk]

    found = leading_tokens(some, COUNTS, VOCABULARY, K, TEMPERATURES, whole, replace(ON_CPU, rows=rows))
    assert asked == {1: [1] * 8, 14: [2, 1, 1, 2, 2]}.get(rows, [3, 1, 4])
    normaliser = torch.stack([(whole / temperature).logsumexp(-1) for temperature in TEMPERATURES])
    torch.testing.assert_close(found.normaliser_ZR, normaliser)
    start, ids = 0, []
    for count in COUNTS:
        favour = (whole[start : start + count] / 2.0).softmax(-1).sum(0)
        ids += [sorted(range(VOCABULARY), key=lambda token: -float(favour[token]))[:K]] * count
        start += count
    assert found.ids_Rk.tolist() == ids


@pytest.mark.parametrize(
    ("given", "computed"), [("bfloat16", "float32"), ("float32", "float32"), ("float64", "float64")]
)
def test_they_are_computed_in_float32_or_more(given: str, computed: str) -> None:
    whole = logits(getattr(torch, given))
    found = leading_tokens(lambda chunk: whole[chunk], COUNTS, VOCABULARY, K, TEMPERATURES, whole)
    assert found.normaliser_ZR.dtype == getattr(torch, computed) and found.ids_Rk.dtype == torch.long
    none = leading_tokens(lambda chunk: whole[chunk], [0], VOCABULARY, K, TEMPERATURES, whole)
    assert none.ids_Rk.shape == (0, K) and none.normaliser_ZR.shape == (2, 0)
    assert none.normaliser_ZR.dtype == getattr(torch, computed)


@pytest.mark.parametrize("rows", [1, 3 * VOCABULARY, 1 << 22])
def test_log_probabilities_and_their_gradient(rows: int) -> None:
    student = logits(rows=11).requires_grad_()
    position = torch.tensor([9, 0, 3, 4, 5, 1, 10, 7])
    chunks = replace(ON_CPU, rows=rows)
    leading = leading_tokens(lambda chunk: student[position[chunk]], COUNTS, VOCABULARY, K, TEMPERATURES, student)
    found = log_probabilities(student, position, leading, TEMPERATURES, chunks)
    wanted = torch.stack([(student[position] / tau).log_softmax(-1).gather(1, leading.ids_Rk) for tau in TEMPERATURES])
    torch.testing.assert_close(found, wanted)
    upstream = torch.randn(found.shape, generator=torch.Generator().manual_seed(1), dtype=found.dtype)
    (gradient,) = torch.autograd.grad((found * upstream).sum(), student)
    (right,) = torch.autograd.grad((wanted * upstream).sum(), student)
    torch.testing.assert_close(gradient, right)
    assert not gradient[[2, 6, 8]].any()


def test_the_gradient_has_the_logits_dtype() -> None:
    student = logits(torch.bfloat16).requires_grad_()
    leading = leading_tokens(lambda chunk: student[chunk], [8], VOCABULARY, K, [1.0], student)
    found = log_probabilities(student, torch.arange(8), leading, [1.0])
    assert found.dtype == torch.float32
    (gradient,) = torch.autograd.grad(found.sum(), student)
    double = student.detach().double().requires_grad_()
    (right,) = torch.autograd.grad(double.log_softmax(-1).gather(1, leading.ids_Rk).sum(), double)
    assert gradient.dtype == torch.bfloat16
    torch.testing.assert_close(gradient.double(), right, rtol=2**-8, atol=1e-6)  # rounded once

"""Log-probabilities of single tokens and of a set, against autograd over a whole log-softmax."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from trainer.objectives.kernels.chunks import ON_CPU
from trainer.objectives.kernels.next_token import next_token_logprobs, next_token_logprobs_of

VOCABULARY = 6
POSITION = torch.tensor([7, 2, 0, 5, 3])
TOKEN = torch.tensor([0, 5, 2, 2, 4])
SETS = {"none": None, "a set": torch.tensor([5, 1])}
in_chunks = pytest.mark.parametrize("rows", [1, 2 * VOCABULARY, 1 << 22])
each_set = pytest.mark.parametrize("chosen", SETS.values(), ids=SETS)


def logits(dtype: torch.dtype = torch.float64) -> Tensor:
    return (3 * torch.randn(8, VOCABULARY, generator=torch.Generator().manual_seed(2), dtype=torch.float64)).to(dtype)


def plain(whole: Tensor, chosen: Tensor | None) -> tuple[Tensor, Tensor]:
    log_p = whole[POSITION].log_softmax(-1)
    token = log_p.gather(1, TOKEN[:, None])[:, 0]
    return token, torch.zeros_like(token) if chosen is None else log_p[:, chosen].logsumexp(-1)


@in_chunks
@each_set
def test_of_logits_that_are_made(rows: int, chosen: Tensor | None) -> None:
    whole, asked = logits(torch.float32)[POSITION], list[int]()

    def some(chunk: slice) -> Tensor:
        asked.append(chunk.stop - chunk.start)
        return whole[chunk]

    found = next_token_logprobs(some, TOKEN, chosen, VOCABULARY, replace(ON_CPU, rows=rows))
    assert asked == {1: [1] * 5, 12: [2, 2, 1]}.get(rows, [5])
    for ours, right in zip(found, plain(logits(torch.float32), chosen), strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, right)


@in_chunks
@each_set
def test_of_logits_that_exist(rows: int, chosen: Tensor | None) -> None:
    whole = logits().requires_grad_()
    found = next_token_logprobs_of(whole, POSITION, TOKEN, chosen, replace(ON_CPU, rows=rows))
    wanted = plain(whole, chosen)
    upstream = torch.randn(2, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    (gradient,) = torch.autograd.grad((torch.stack(found) * upstream).sum(), whole)
    (right,) = torch.autograd.grad((torch.stack(wanted) * upstream).sum(), whole)
    for ours, theirs in zip((*found, gradient), (*wanted, right), strict=True):
        torch.testing.assert_close(ours, theirs)
    assert not gradient[[1, 4, 6]].any()


@each_set
def test_in_bfloat16_only_the_gradient_is_rounded(chosen: Tensor | None) -> None:
    whole = logits(torch.bfloat16).requires_grad_()
    exact = whole.detach().double().requires_grad_()
    found, wanted = next_token_logprobs_of(whole, POSITION, TOKEN, chosen), plain(exact, chosen)
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-5, atol=1e-6)
    (gradient,) = torch.autograd.grad(sum(found).sum(), whole)  # type: ignore[union-attr]
    (right,) = torch.autograd.grad(sum(wanted).sum(), exact)  # type: ignore[union-attr]
    assert gradient.dtype == torch.bfloat16
    torch.testing.assert_close(gradient.double(), right, rtol=2**-8, atol=1e-6)


def test_no_probability_is_above_1() -> None:
    """Of a token, or of a set, that holds all of it: rounding alone would lift its logarithm above 0."""
    generator = torch.Generator().manual_seed(4)
    sure = torch.randn(4000, 50, generator=generator)
    everything = torch.arange(50)
    for token, together in (
        next_token_logprobs(lambda chunk: sure[chunk], torch.zeros(4000, dtype=torch.long), everything, 50),
        next_token_logprobs_of(sure, torch.arange(4000), torch.zeros(4000, dtype=torch.long), everything),
    ):
        assert together.max() == 0 and together.min() > -1e-6 and token.max() < 0

"""Rows of teacher logits in each of three forms, by autograd over what each is said to be."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from schemas.cache.kinds.next_token import NO_TAIL
from trainer.objectives.kernels.divergences import forward_kl, reverse_kl
from trainer.objectives.kernels.teacher_rows import exact_rows, sampled_rows, top_k_rows

SHARED, TAU, CHUNK = 5, 2.0, slice(1, 4)
IDS = torch.tensor([[0, 1], [4, 2], [1, 6], [3, 0]])  # 6 is a token that the student does not have
STORED = torch.tensor([[0.4, 0.3, 0.3], [0.5, 0.1, 0.4], [0.6, 0.3, 0.1], [0.2, 0.2, 0.6]], dtype=torch.float64).log()
WEIGHTS = torch.tensor([[1.0, 0.5], [0.25, 2.0], [0.5, 1.5], [1.0, 1.0]], dtype=torch.float64)


def student(dtype: torch.dtype = torch.float64) -> Tensor:
    """Three rows of seven columns, of which five are shared."""
    return torch.randn(3, 7, generator=torch.Generator().manual_seed(6), dtype=torch.float64).to(dtype)


def agrees(row_loss: Any, wanted: Callable[[Tensor], Tensor]) -> None:
    logits = student().requires_grad_()
    right = wanted(logits)
    (gradient,) = torch.autograd.grad(right.sum(), logits)
    value, found = row_loss(logits.detach().clone(), CHUNK)
    torch.testing.assert_close(value, right.detach())
    torch.testing.assert_close(found, gradient)
    assert found.shape == logits.shape and not found[:, SHARED:].any()


@pytest.mark.parametrize("divergence", [forward_kl, reverse_kl])
def test_exact_rows(divergence: Any) -> None:
    teacher = torch.randn(4, SHARED, generator=torch.Generator().manual_seed(7), dtype=torch.float64)

    def wanted(logits: Tensor) -> Tensor:
        log_q = (logits[:, :SHARED] / TAU).log_softmax(-1)
        value: Tensor = TAU**2 * divergence((teacher[CHUNK] / TAU).log_softmax(-1), log_q)[0]
        return value

    agrees(exact_rows(lambda chunk: teacher[chunk], SHARED, TAU, divergence), wanted)


@pytest.mark.parametrize("divergence", [forward_kl, reverse_kl])
def test_top_k_rows(divergence: Any) -> None:
    """A stored token that the student lacks is impossible on both sides, and the teacher's others are 1 in sum."""

    def wanted(logits: Tensor) -> Tensor:
        values = list[Tensor]()
        for row in range(3):
            log_q = (logits[row, :SHARED] / TAU).log_softmax(-1)
            ids = [int(token) for token in IDS[row + 1] if token < SHARED]
            kept = [place for place, token in enumerate(IDS[row + 1]) if token < SHARED]
            log_p = STORED[row + 1][[*kept, 2]].log_softmax(-1)
            rest = [token for token in range(SHARED) if token not in ids]
            events = torch.cat([log_q[ids], log_q[rest].logsumexp(0)[None]])
            values.append(TAU**2 * divergence(log_p[None], events[None])[0][0])
        return torch.stack(values)

    agrees(top_k_rows(IDS, STORED, SHARED, TAU, divergence), wanted)


def test_a_top_k_of_everything_has_no_tail() -> None:
    stored = torch.tensor([[0.7, 0.3, 0.0]], dtype=torch.float64).log().clamp_min(NO_TAIL)
    logits = torch.tensor([[0.3, 0.9]], dtype=torch.float64)
    value, gradient = top_k_rows(torch.tensor([[1, 0]]), stored, 2, 1.0, forward_kl)(logits, slice(0, 1))
    log_q = logits.log_softmax(-1)
    right = forward_kl(torch.tensor([[0.3, 0.7]], dtype=torch.float64).log(), log_q)[0]
    torch.testing.assert_close(value, right)
    torch.testing.assert_close(gradient, log_q.exp() - torch.tensor([[0.3, 0.7]], dtype=torch.float64))


def test_sampled_rows() -> None:
    """A token drawn twice counts twice; one that the student lacks counts nothing."""
    drawn = IDS.clone()
    drawn[3] = torch.tensor([2, 2])

    def wanted(logits: Tensor) -> Tensor:
        log_q = (logits[:, :SHARED] / TAU).log_softmax(-1)
        values = [
            -sum(
                weight * log_q[row, token]
                for token, weight in zip(drawn[row + 1].tolist(), WEIGHTS[row + 1].tolist(), strict=True)
                if token < SHARED
            )
            for row in range(3)
        ]
        return TAU**2 * torch.stack(values)

    agrees(sampled_rows(drawn, WEIGHTS, SHARED, TAU), wanted)


def test_values_have_the_student_s_dtype() -> None:
    teacher = torch.zeros(4, SHARED, dtype=torch.float16)
    for row_loss in (
        exact_rows(lambda chunk: teacher[chunk], SHARED, TAU, forward_kl),
        top_k_rows(IDS, STORED, SHARED, TAU, forward_kl),
        sampled_rows(IDS, WEIGHTS, SHARED, TAU),
    ):
        value, gradient = row_loss(student(torch.float32), CHUNK)
        assert value.dtype == gradient.dtype == torch.float32

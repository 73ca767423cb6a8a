"""MultiLevelOT against loops over tokens, positions and the Sinkhorn matrix; its plan, what it must not see, memory."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from schemas.cache.teacher import HeadRecord
from schemas.configs.losses.multilevel_ot import MultiLevelOTConfig
from tests.trainer.objectives.answers import whole_logits
from tests.trainer.objectives.naive_multilevel_ot import multilevel_ot
from tests.trainer.objectives.numbering import assert_numbering_changes_nothing
from tests.trainer.objectives.precision import TOLERANCE, close
from tests.trainer.objectives.predicting import teacher_logits
from tests.trainer.objectives.world import L_T, SEEDS, counts_of, losses_of, make_batch, make_context
from trainer.objectives.kernels.chunks import ON_CPU
from trainer.objectives.kernels.leading_tokens import leading_tokens, log_probabilities
from trainer.objectives.objective import build_objective
from trainer.objectives.parts.sinkhorn import sinkhorn_plan

SOFTCAPPED = HeadRecord(dtype="float32", bias=False, scale=0.5, softcap=3.0)


SWITCHES = {
    "default": ({}, None),
    "three tokens": ({"top_k": 3}, None),
    "one token": ({"top_k": 1}, None),
    "temperatures": ({"temperature": 2.0, "sinkhorn_temperature": 0.7, "top_k": 4}, None),
    "a sharp plan": ({"regularisation": 0.05, "iterations": 3}, None),
    "absolute alone": ({"logarithmic": 0, "sinkhorn": 0}, None),
    "logarithmic alone": ({"absolute": 0, "sinkhorn": 0, "weight": 2.0}, None),
    "sinkhorn alone": ({"absolute": 0, "logarithmic": 0, "sinkhorn": 1}, None),
    "soft-capped teacher": ({"top_k": 5}, SOFTCAPPED),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize(("switches", "record"), SWITCHES.values(), ids=SWITCHES)
def test_value_and_gradient(switches: dict[str, Any], record: HeadRecord | None, dtype: torch.dtype) -> None:
    config = MultiLevelOTConfig(**switches)
    for seed in (*SEEDS[dtype], 7):
        context = make_context(seed, record=record)
        objective = build_objective([config], context)
        student, batch = make_batch(objective, seed, samples=5, dtype=dtype)
        counts = counts_of(batch)
        scalar, parts = objective(student, batch, counts)
        truth = multilevel_ot(student, batch, teacher_logits(context.head, batch, L_T), config)
        wanted = torch.zeros((), dtype=torch.float64)
        for name, value in truth.items():
            weight = getattr(config, name)
            assert (f"multilevel_ot/{name}" in parts) is (weight > 0)
            if weight > 0:
                close(parts[f"multilevel_ot/{name}"], value.detach() / counts["token"], TOLERANCE)
                wanted = wanted + config.weight * weight * value / counts["token"]
        (found,) = torch.autograd.grad(scalar, whole_logits(student))
        (right,) = torch.autograd.grad(wanted, whole_logits(student))
        close(found, right, TOLERANCE)
        assert right.abs().max() > 1e-4


@settings(max_examples=16, deadline=None)  # of many plans each, which are made in the time of one
@given(
    seed=st.integers(0, 2**31),
    lengths=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=16),
    regularisation=st.sampled_from([0.05, 0.3, 1.0]),
)
def test_the_plan_has_the_marginals_of_equation_19(seed: int, lengths: Tensor, regularisation: float) -> None:
    """Columns sum to 1 after any number of iterations, rows to S / T after many; padding sends and receives nothing."""
    g = torch.Generator().manual_seed(seed)
    T, S = (max(1, *(length[side] for length in lengths)) + 1 for side in (0, 1))
    cost = 2 * torch.rand(len(lengths), T, S, generator=g, dtype=torch.float64)
    mask_BT = torch.arange(T) < torch.tensor([t for t, _ in lengths])[:, None]
    mask_BS = torch.arange(S) < torch.tensor([s for _, s in lengths])[:, None]
    both = (mask_BT.any(1) & mask_BS.any(1))[:, None]
    for iterations in (1, 3000):
        plan = sinkhorn_plan(cost, mask_BT, mask_BS, regularisation, iterations)
        assert (plan >= 0).all()
        torch.testing.assert_close(plan.sum(1), (mask_BS & both).double(), rtol=1e-12, atol=1e-12)
        assert torch.count_nonzero(plan.sum(2)[~(mask_BT & both)]) == 0
    if regularisation < 0.1:
        return  # the sharper the plan, the more iterations rows need
    rows = torch.tensor([s / max(t, 1) for t, s in lengths], dtype=torch.float64)[:, None]
    torch.testing.assert_close(plan.sum(2), torch.where(mask_BT & both, rows, 0.0), rtol=1e-4, atol=1e-4)


def test_the_sharpest_plan_stays_finite_in_float32() -> None:
    """Costs go from 0 to 2, the L1 distance of two distributions that share nothing."""
    cost = torch.tensor([[[0.0, 2.0, 2.0], [2.0, 2.0, 0.0], [2.0, 2.0, 2.0]]], requires_grad=True)
    mask = torch.ones(1, 3, dtype=torch.bool)
    plan = sinkhorn_plan(cost, mask, mask, 0.05, 1000)
    (gradient,) = torch.autograd.grad((plan * cost).sum(), cost)
    torch.testing.assert_close(
        plan[0], torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]]), rtol=0, atol=1e-3
    )
    assert torch.isfinite(gradient).all()


def test_sequences_of_very_different_lengths_stay_finite_in_float32() -> None:
    g = torch.Generator().manual_seed(0)
    for T, S in ((2, 400), (400, 2)):
        masks = torch.ones(1, T, dtype=torch.bool), torch.ones(1, S, dtype=torch.bool)
        plan = sinkhorn_plan(2 * torch.rand(1, T, S, generator=g), *masks, 0.1, 200)
        torch.testing.assert_close(plan.sum(1), torch.ones(1, S))
        torch.testing.assert_close(plan.sum(2), torch.full((1, T), S / T), rtol=1e-3, atol=0)


def test_log_probabilities_err_no_more_than_plain_float32() -> None:
    """Over a vocabulary of 50,000, against float64: the value and the gradient."""
    g = torch.Generator().manual_seed(0)
    logits = (4 * torch.randn(12, 50_000, generator=g)).requires_grad_()
    position, temperatures = torch.tensor([0, 2, 3, 5, 7, 8, 11]), (1.0, 2.0)
    found = leading_tokens(lambda chunk: logits[position[chunk]], [3, 0, 4], 50_000, 50, temperatures, logits)
    upstream = torch.randn(2, 7, 50, generator=g)

    def plain(z: Tensor) -> Any:
        rows = z[position]
        return torch.stack([(rows / tau).log_softmax(-1).gather(1, found.ids_Rk) for tau in temperatures])

    exact = logits.detach().double().requires_grad_()
    truth = plain(exact)
    (true_gradient,) = torch.autograd.grad((truth * upstream).sum(), exact)
    errors = []
    for way in (lambda z: log_probabilities(z, position, found, temperatures), plain):
        value = way(logits)
        (gradient,) = torch.autograd.grad((value * upstream).sum(), logits)
        errors.append((float((value - truth).detach().abs().max()), float((gradient - true_gradient).norm())))
    for ours, theirs in zip(*errors, strict=True):
        assert ours <= 1.2 * theirs + 1e-6


def test_numbering_either_vocabulary_differently_changes_nothing() -> None:
    assert_numbering_changes_nothing(MultiLevelOTConfig(top_k=4))


def test_logits_of_the_teacher_stay_within_the_budget() -> None:
    context = make_context(0)
    objective = build_objective([MultiLevelOTConfig(top_k=2)], context)
    student, batch = make_batch(objective, 0, samples=6)
    whole, _ = objective(student, batch, counts_of(batch))
    (right,) = torch.autograd.grad(whole, whole_logits(student))
    losses_of(objective)[0].chunks = replace(ON_CPU, rows=20)  # two rows of 9 tokens, or of 7
    asked = []
    context.head.register_forward_hook(lambda module, args, logits: asked.append(logits.numel()))
    chunked, _ = objective(student, batch, counts_of(batch))
    (gradient,) = torch.autograd.grad(chunked, whole_logits(student))
    assert max(asked) <= 20
    assert sum(asked) > 3 * 18
    assert chunked.item() == pytest.approx(whole.item(), rel=1e-6)
    torch.testing.assert_close(gradient, right, rtol=1e-5, atol=1e-8)


def test_nothing_to_weigh_is_refused() -> None:
    with pytest.raises(ValueError, match="absolute, logarithmic and sinkhorn are all 0"):
        MultiLevelOTConfig(absolute=0, logarithmic=0, sinkhorn=0)

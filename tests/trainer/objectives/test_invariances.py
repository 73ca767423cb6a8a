"""What must not change an objective, or make it infinite: how a step is cut, nothing to learn, zeros, few digits."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from schemas.configs.losses.base import WeightedLoss
from schemas.configs.losses.ce import CrossEntropyConfig
from schemas.configs.losses.kd import KDConfig
from schemas.configs.losses.mta import MTAConfig
from schemas.configs.losses.sra import SRAConfig
from tests.trainer.objectives.answers import by_layer, in_dtype, moved
from tests.trainer.objectives.world import counts_of, gradients, leaves, make_batch, make_context, pick
from trainer.data.teacher_states import TeacherHidden, TeacherMass
from trainer.data.tied_tokens import Spans
from trainer.objectives.objective import build_objective
from trainer.student.states import StudentHidden, StudentMass

CE = CrossEntropyConfig(weight=0.5)
OBJECTIVES = {
    "sra": ([CE, SRAConfig(weight=0.5, mass_exponent=0.5, ignore_first=1)], False),
    "mta": ([CE, MTAConfig()], False),
    "kd, sra and mta": ([CE, KDConfig(temperature=2.0), SRAConfig(span_kd_reduction="mean"), MTAConfig()], True),
}
each = pytest.mark.parametrize(("configs", "same"), OBJECTIVES.values(), ids=OBJECTIVES)


def build(configs: Sequence[WeightedLoss], same: bool, seed: int = 0, samples: int = 4) -> Any:
    objective = build_objective(configs, make_context(seed, same=same))
    student, batch = make_batch(objective, seed, same=same, samples=samples, dtype=torch.float32)
    return objective, student, batch


@each
def test_accumulated_batches_weigh_as_one_large_batch(configs: Sequence[WeightedLoss], same: bool) -> None:
    objective, student, batch = build(configs, same, samples=6, seed=2)
    counts = counts_of(batch)
    scalar, parts = objective(student, batch, counts)
    whole = gradients(scalar, student, objective)
    pieces = [pick(student, batch, samples) for samples in ([0], [1, 2, 3], [4, 5])]
    assert counts == counts_of(*(piece for _, piece in pieces))
    results = [objective(*piece, counts) for piece in pieces]
    for name in parts:
        torch.testing.assert_close(sum(r[1][name] for r in results), parts[name], rtol=1e-6, atol=1e-7)
    summed = gradients(sum(r[0] for r in results), student, objective)
    for a, b in zip(summed, whole, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


@each
def test_a_step_of_nothing_is_zero_and_finite(configs: Sequence[WeightedLoss], same: bool) -> None:
    """No target, no pair, no span: 0, and a gradient of exactly 0."""
    objective, student, batch = build(configs, same)
    batch = replace(
        batch,
        target_BS=torch.zeros_like(batch.target_BS),
    )
    batch = moved(batch, Spans, lambda spans: replace(spans, mask_BK=torch.zeros_like(spans.mask_BK)))
    scalar, parts = objective(student, batch, counts_of(batch))
    assert scalar.item() == 0.0
    assert all(part.item() == 0.0 for part in parts.values())
    for gradient in gradients(scalar, student, objective):
        assert torch.count_nonzero(gradient) == 0


@each
def test_states_of_zero_and_masses_of_zero_stay_finite(configs: Sequence[WeightedLoss], same: bool) -> None:
    """An untrained embedding may be all zeros, equal states have no variance, and float32 attention underflows to 0."""
    objective, student, batch = build(configs, same)
    with torch.no_grad():
        for hidden in (*by_layer(student, StudentHidden).values(), *by_layer(batch, TeacherHidden).values()):
            hidden[0] = 0.0
            hidden[2, :, :] = 1.0
    for mass in (*by_layer(student, StudentMass).values(), *by_layer(batch, TeacherMass).values()):
        mass[0] = 0.0
    scalar, _ = objective(student, batch, counts_of(batch))
    assert torch.isfinite(scalar)
    for gradient in gradients(scalar, student, objective):
        assert torch.isfinite(gradient).all()
        assert gradient.abs().max() < 100


@each
def test_autocast_and_half_precision_states_are_computed_in_float32(
    configs: Sequence[WeightedLoss], same: bool
) -> None:
    objective, student, batch = build(configs, same)
    half = in_dtype(student, torch.bfloat16)
    full = in_dtype(half, torch.float32)
    counts = counts_of(batch)
    with torch.autocast("cpu", torch.bfloat16):
        scalar, parts = objective(half, batch, counts)
    wanted, wanted_parts = objective(full, batch, counts)
    assert scalar.dtype == torch.float32
    assert {n: p.item() for n, p in parts.items()} == {n: p.item() for n, p in wanted_parts.items()}
    found, right = gradients(scalar, half, objective), gradients(wanted, full, objective)
    for f, r, leaf in zip(found, right, leaves(half, objective), strict=True):
        assert f.dtype == leaf.dtype
        # Two losses round their gradient to the leaf's bfloat16 before they are added.
        torch.testing.assert_close(f.float(), r, rtol=2e-2, atol=2e-2 * float(r.abs().max()))


def test_the_teacher_never_gets_a_gradient() -> None:
    objective, student, batch = build(*OBJECTIVES["kd, sra and mta"])
    for states in (*by_layer(batch, TeacherHidden).values(), *by_layer(batch, TeacherMass).values()):
        states.requires_grad_()
    for mass in by_layer(student, StudentMass).values():
        mass.requires_grad_()
    objective(student, batch, counts_of(batch))[0].backward()
    assert all(mass.grad is None for mass in by_layer(student, StudentMass).values())
    assert all(
        states.grad is None
        for states in (*by_layer(batch, TeacherHidden).values(), *by_layer(batch, TeacherMass).values())
    )

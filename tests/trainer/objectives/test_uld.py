"""ULD against loops over the sorted probabilities: value and gradient; what it must not see; its memory."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from schemas.cache.teacher import HeadRecord
from schemas.configs.losses.uld import ULDConfig
from tests.trainer.objectives.answers import by_layer, whole_logits
from tests.trainer.objectives.naive_uld import distance, pairs_of, uld
from tests.trainer.objectives.numbering import assert_numbering_changes_nothing
from tests.trainer.objectives.precision import TOLERANCE, close, gradient_of
from tests.trainer.objectives.predicting import student_positions, teacher_logits
from tests.trainer.objectives.world import L_T, SEEDS, counts_of, losses_of, make_batch, make_context
from trainer.data.batch import Divisor
from trainer.data.teacher_states import TeacherHidden
from trainer.objectives.kernels.chunks import ON_CPU
from trainer.objectives.objective import build_objective
from trainer.objectives.uld import sorted_distance
from trainer.student.states import StudentLogits, StudentStates

SOFTCAPPED = HeadRecord(dtype="float32", bias=False, scale=0.5, softcap=3.0)


SWITCHES = {
    "default": ({}, None),
    "temperature": ({"temperature": 2.0, "weight": 0.3}, None),
    "mean of samples": ({"normalise": "sample"}, None),
    "spans": ({"pairs": "span"}, None),
    "spans, mean of samples": ({"pairs": "span", "normalise": "sample", "temperature": 0.7}, None),
    "soft-capped teacher": ({}, SOFTCAPPED),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize(("switches", "record"), SWITCHES.values(), ids=SWITCHES)
def test_value_and_gradient(switches: dict[str, Any], record: HeadRecord | None, dtype: torch.dtype) -> None:
    config = ULDConfig(**switches)
    for seed in (*SEEDS[dtype], 7):
        context = make_context(seed, record=record)
        objective = build_objective([config], context)
        student, batch = make_batch(objective, seed, samples=5, dtype=dtype)
        counts = counts_of(batch)
        scalar, parts = objective(student, batch, counts)
        divisor: Divisor = "token" if config.normalise == "token" else "sample"
        wanted = uld(student, batch, teacher_logits(context.head, batch, L_T), config) / counts[divisor]
        close(parts["uld/distance"], wanted.detach(), TOLERANCE)
        (found,) = torch.autograd.grad(scalar, whole_logits(student))
        (right,) = torch.autograd.grad(config.weight * wanted, whole_logits(student))
        close(found, right, TOLERANCE)
        assert right.abs().max() > 1e-4


def test_an_end_of_sequence_the_teacher_was_not_fed_is_predicted_by_its_last_state() -> None:
    context = make_context(3)
    objective = build_objective([ULDConfig()], context)
    student, batch = make_batch(objective, 3, samples=3)
    last = int(batch.mask_BS[0].sum()) - 1
    batch.mask_BS[0, last], batch.target_BS[0, last] = False, True
    batch.teacher_target_BT[0] = False  # nothing else is left to pair with
    scalar, _ = objective(student, batch, counts_of(batch))
    logits, end = teacher_logits(context.head, batch, L_T), int(batch.teacher_mask_BT[0].sum()) - 1
    (first, *_) = student_positions(batch, 0)
    alone = distance(whole_logits(student)[0, first], logits[0][end], 1.0)
    rest = [
        distance(whole_logits(student)[b, s], logits[b][t], 1.0)
        for b in (1, 2)
        for s, t in pairs_of(batch, ULDConfig(), b)
    ]
    assert scalar.item() * batch.count("token") == pytest.approx((alone + sum(rest)).item(), rel=1e-5)


def test_the_fast_path_errs_no_more_than_plain_float32() -> None:
    """Over a vocabulary of 50,000, against float64: the value and the gradient."""
    g = torch.Generator().manual_seed(0)
    student, teacher = 4 * torch.randn(6, 50_000, generator=g), 4 * torch.randn(6, 40_000, generator=g)

    def plain(z: Tensor, y: Tensor) -> Any:
        q, p = (x.softmax(-1).sort(-1, descending=True).values for x in (z, y))
        return (q - torch.nn.functional.pad(p, (0, 10_000))).abs().sum(-1)

    leaf, exact = student.clone().requires_grad_(), student.double().requires_grad_()
    plain(leaf, teacher).sum().backward()
    truth = plain(exact, teacher.double())
    truth.sum().backward()
    value, gradient = sorted_distance(student.clone(), teacher, 1.0)
    ours, theirs = (float((x - truth).detach().abs().max()) for x in (value, plain(student, teacher)))
    assert ours <= 1.2 * theirs + 1e-7
    # A sign may fall either way where two probabilities agree to all digits of float32; that goes for both.
    ours, theirs = (float((x.double() - gradient_of(exact)).norm()) for x in (gradient, gradient_of(leaf)))
    assert ours <= 1.2 * theirs + 1e-7


@pytest.mark.parametrize("pairs", ["order", "span"])
def test_numbering_either_vocabulary_differently_changes_nothing(pairs: str) -> None:
    assert_numbering_changes_nothing(ULDConfig(pairs=pairs, temperature=1.5))


def test_a_student_that_is_its_teacher_is_no_distance_away() -> None:
    context = make_context(2)
    objective = build_objective([ULDConfig()], context)
    _, batch = make_batch(objective, 2, same=True, dtype=torch.float32)
    batch.target_BS[:, 1:] = batch.mask_BS[:, 1:]
    length = batch.tokens_BS.shape[1]
    logits = context.head(by_layer(batch, TeacherHidden)[L_T])[:, :length].requires_grad_()
    assert torch.equal(batch.target_BS, batch.teacher_target_BT[:, :length])
    scalar, _ = objective(StudentStates({StudentLogits(): logits}), batch, counts_of(batch))
    assert abs(scalar.item()) < 1e-6


def test_logits_of_the_teacher_stay_within_the_budget() -> None:
    context = make_context(0)
    objective = build_objective([ULDConfig()], context)
    student, batch = make_batch(objective, 0, samples=6)
    whole, _ = objective(student, batch, counts_of(batch))
    asked = []
    context.head.register_forward_hook(lambda module, args, logits: asked.append(logits.numel()))
    losses_of(objective)[0].chunks = replace(ON_CPU, rows=20)  # two rows of 9 tokens
    chunked, _ = objective(student, batch, counts_of(batch))
    assert max(asked) <= 20
    assert sum(asked) > 3 * 18
    assert chunked.item() == pytest.approx(whole.item(), rel=1e-6)


def test_the_gradient_is_handed_over_once() -> None:
    objective = build_objective([ULDConfig()], make_context(0))
    student, batch = make_batch(objective, 0)
    scalar, _ = objective(student, batch, counts_of(batch))
    scalar.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="handed over already"):
        scalar.backward()

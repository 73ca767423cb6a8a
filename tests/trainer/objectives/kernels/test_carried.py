"""Cross-entropy carried by another loss is cross-entropy: the same value, the same gradient, whatever carries it."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from schemas.configs.losses.ce import CrossEntropyConfig
from schemas.configs.losses.kd import KDConfig
from schemas.configs.losses.mta import MTAConfig
from schemas.configs.losses.sra import SRAConfig
from tests.trainer.objectives.answers import moved, whole_logits
from tests.trainer.objectives.world import counts_of, gradients, losses_of, make_batch, make_context, to_double
from trainer.data.batch import Batch
from trainer.data.tied_tokens import Spans
from trainer.objectives.ce import cross_entropy
from trainer.objectives.kernels.carried import CarriedCrossEntropy
from trainer.objectives.kernels.chunks import ON_CPU
from trainer.objectives.kernels.powers import Powers
from trainer.objectives.objective import Objective, build_objective
from trainer.student.states import StudentStates

CE = CrossEntropyConfig(weight=0.7)
CARRIERS = {
    "sra": (SRAConfig(weight=0.3, span_kd=0.4), False),
    "sra, mean over spans, one vocabulary": (SRAConfig(span_kd_reduction="mean"), True),
    "kd": (KDConfig(weight=0.6, temperature=1.5), True),
}


def one_by_one(objective: Objective, student: StudentStates, batch: Batch, counts: Any) -> Any:
    """The objective's value and gradient as the sum of its losses, each alone, so that none carries another."""
    total: Any = 0.0
    for loss in losses_of(objective):
        for term in loss(student, batch).values():
            total = total + loss.weight * term.weight * term.total / counts[loss.divisor]
    return total.detach(), gradients(total, student, objective)


@pytest.mark.parametrize(("carrier", "same"), CARRIERS.values(), ids=CARRIERS)
@pytest.mark.parametrize("block", [1, 40, 1 << 18])
@pytest.mark.parametrize("seed", range(4))
def test_the_objective_is_the_sum_of_its_losses(carrier: Any, same: bool, block: int, seed: int) -> None:
    shared = ([*range(7)], [*range(7)]) if same and seed % 2 else None
    objective = build_objective([CE, carrier, MTAConfig()], make_context(seed, same=same, shared=shared))
    to_double(objective)
    for loss in losses_of(objective):
        loss.chunks = replace(ON_CPU, block=block)
    student, batch = make_batch(objective, seed, same=same)
    counts = counts_of(batch)
    counts = {unit: 3 * count + 1 for unit, count in counts.items()}  # of a step with other batches too
    total, parts = objective(student, batch, counts)
    found = gradients(total, student, objective)
    wanted_total, wanted = one_by_one(objective, student, batch, counts)
    nll = cross_entropy(whole_logits(student), batch.tokens_BS, batch.target_BS) / counts["token"]
    torch.testing.assert_close(total.detach(), wanted_total, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(parts["ce/nll"], nll.detach())
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)


def test_without_a_span_to_compare_there_is_still_cross_entropy() -> None:
    objective = build_objective([CE, SRAConfig(cos=0, geo=0)], make_context())
    student, batch = make_batch(objective)
    batch = moved(batch, Spans, lambda spans: replace(spans, mask_BK=spans.mask_BK & False))
    counts = counts_of(batch)
    total, _ = objective(student, batch, counts)
    alone, _ = build_objective([CE], make_context())(student, batch, counts)
    (found,), (wanted,) = (torch.autograd.grad(x, whole_logits(student)) for x in (total, alone))
    torch.testing.assert_close(total, alone)
    torch.testing.assert_close(found, wanted)


def test_two_cross_entropies_go_alone() -> None:
    objective = build_objective([CE, CrossEntropyConfig(weight=0.1), SRAConfig()], make_context())
    to_double(objective)
    student, batch = make_batch(objective)
    total, parts = objective(student, batch, counts_of(batch))
    torch.testing.assert_close(parts["ce/nll"], parts["ce2/nll"])
    torch.testing.assert_close(total.detach(), one_by_one(objective, student, batch, counts_of(batch))[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("offset", [0.0, -90.0, 3000.0])
def test_it_errs_no_more_than_torch_does(dtype: torch.dtype, offset: float) -> None:
    g = torch.Generator().manual_seed(0)
    logits = (5 * torch.randn(50, 2000, generator=g) + offset).to(dtype).float()
    label, wanted = torch.randint(0, 2000, (50,), generator=g), torch.rand(50, generator=g) < 0.8
    carried = CarriedCrossEntropy(label, wanted, 0.5, 1.0, logits)
    gradient = torch.zeros_like(logits)
    carried.add(slice(0, 50), Powers.of(logits), gradient)

    def plain(x: Tensor) -> Any:
        x = x.clone().requires_grad_()
        value = F.cross_entropy(x, label.masked_fill(~wanted, -100), reduction="sum")
        return value.detach().double(), 0.5 * torch.autograd.grad(value, x)[0].double()

    for ours, theirs, right in zip((carried.total, gradient), plain(logits), plain(logits.double()), strict=True):
        allowed = max(1e-6 * right.abs().max(), 2 * (theirs - right).abs().max())
        assert (ours.double() - right).abs().max() <= allowed
    assert torch.count_nonzero(gradient[~wanted]) == 0


def test_what_is_not_wanted_may_be_anything() -> None:
    logits = torch.tensor([[0.0, -torch.inf], [1.0, 2.0]])
    carried = CarriedCrossEntropy(torch.tensor([1, 0]), torch.tensor([False, True]), 1.0, 1.0, logits)
    gradient = torch.zeros(2, 2)
    carried.add(slice(0, 2), Powers.of(logits), gradient)
    torch.testing.assert_close(carried.total, F.cross_entropy(logits[1:], torch.tensor([0])))
    assert torch.count_nonzero(gradient[0]) == 0


def test_a_label_of_no_probability_has_a_finite_loss() -> None:
    logits = torch.tensor([[0.0, -1e4]])
    carried = CarriedCrossEntropy(torch.tensor([1]), torch.tensor([True]), 1.0, 1.0, logits)
    gradient = torch.zeros(1, 2)
    carried.add(torch.tensor([0]), Powers.of(logits), gradient)
    assert carried.total.item() == 1e4
    assert gradient.tolist() == [[1.0, -1.0]]


@pytest.mark.parametrize("carrier", [SRAConfig(weight=0.3, span_kd=0.4), KDConfig(temperature=1.5)])
def test_another_scale_than_the_one_handed_down_is_refused(carrier: Any) -> None:
    """Counts that are not the step's, or a weight that changes between the passes, would rescale cross-entropy."""
    objective = to_double(build_objective([CE, carrier], make_context(same=True)))
    student, batch = make_batch(objective, same=True)
    counts = counts_of(batch)
    entropy, loss = losses_of(objective)
    name = "span_kd" if isinstance(carrier, SRAConfig) else "kl"
    scale, carrier_scale = CE.weight / counts["token"], loss.weight / counts[loss.divisor]

    def total(factor: Any) -> Any:
        carried = entropy.carried(student, batch, scale, carrier_scale)
        term = loss(student, batch, carried)[name]
        return carrier_scale * term.weight * term.total + factor * scale * carried.total

    (once,) = torch.autograd.grad(total(1.0), whole_logits(student))
    (thrice,) = torch.autograd.grad(3 * total(1.0), whole_logits(student))
    torch.testing.assert_close(thrice, 3 * once)
    with pytest.raises(RuntimeError) as refused:
        total(0.5).backward()
    assert str(refused.value) == (
        "cross-entropy was carried at 2 of the scale that it is backpropagated with: the objective and "
        "`CarriedCrossEntropy` must have the same weights and counts"
    )


def test_cross_entropy_that_is_left_out_is_refused() -> None:
    objective = to_double(build_objective([CE, SRAConfig()], make_context()))
    student, batch = make_batch(objective)
    entropy, loss = losses_of(objective)
    terms = loss(student, batch, entropy.carried(student, batch, 1.0, 1.0))
    with pytest.raises(RuntimeError) as refused:
        terms["span_kd"].total.backward()
    assert str(refused.value) == "a pass carries cross-entropy: both values are part of what is backpropagated"

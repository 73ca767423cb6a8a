"""A loss that compares sorted or ranked predictions does not see how either vocabulary is numbered."""

import torch

from schemas.configs.losses.base import WeightedLoss
from schemas.models.teacher_head import TeacherHead
from tests.trainer.objectives.answers import whole_logits
from tests.trainer.objectives.world import counts_of, losses_of, make_batch, make_context
from trainer.objectives.objective import build_objective
from trainer.student.states import StudentLogits, StudentStates


def assert_numbering_changes_nothing(config: WeightedLoss) -> None:
    """Value and gradient, over tokens of both sides in another order."""
    context = make_context(1)
    objective = build_objective([config], context)
    student, batch = make_batch(objective, 1)
    counts = counts_of(batch)
    before, _ = objective(student, batch, counts)
    (gradient,) = torch.autograd.grad(before, whole_logits(student))
    g = torch.Generator().manual_seed(0)
    own, theirs = (
        torch.randperm(n, generator=g) for n in (whole_logits(student).shape[2], len(context.head.weight_Vd))
    )
    losses_of(objective)[0].head = TeacherHead(
        context.head.weight_Vd[theirs], context.head.bias_V[theirs], context.head.transform
    )
    turned = whole_logits(student).detach()[:, :, own].requires_grad_()
    after, _ = objective(StudentStates({StudentLogits(): turned}), batch, counts)
    (turned_gradient,) = torch.autograd.grad(after, turned)
    torch.testing.assert_close(after, before, rtol=1e-6, atol=0)
    torch.testing.assert_close(turned_gradient, gradient[:, :, own], rtol=1e-5, atol=1e-8)

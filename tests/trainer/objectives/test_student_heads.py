"""Students whose logits are not plainly W_U h: a scale (Granite, Cohere) and a soft-cap (Gemma 2) apply to inner states
and projected ones too."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from schemas.configs.losses.dskd import DSKDConfig
from schemas.configs.losses.fdd import FDDConfig
from schemas.configs.losses.sra import SRAConfig
from schemas.errors import RunError
from schemas.models.logits import LogitTransform
from tests.trainer.objectives import naive
from tests.trainer.objectives.answers import by_layer, whole_logits, with_answers
from tests.trainer.objectives.world import D_S, L_S, V_S, counts_of, losses_of, make_batch, make_context, to_double
from trainer.data.teacher_states import TeacherHidden
from trainer.data.tied_tokens import SameTokenPositions
from trainer.objectives.context import StudentSize
from trainer.objectives.objective import build_objective
from trainer.student.states import StudentEmbedding, StudentHidden, StudentUnembedding

SHAPES = [LogitTransform(0.25), LogitTransform(1.0, 5.0), LogitTransform(2.0, 3.0)]


def shaped(x: Tensor, shape: LogitTransform) -> Any:
    x = x * shape.scale
    return x if shape.softcap is None else shape.softcap * torch.tanh(x / shape.softcap)


def world(config: Any, shape: LogitTransform, same: bool) -> Any:
    context = replace(make_context(2, same=same), student=StudentSize(L_S, D_S, shape))
    objective = to_double(build_objective([config], context))
    student, batch = make_batch(objective, 2, same=same)
    torch.manual_seed(2)
    head = nn.Linear(D_S, V_S, dtype=torch.float64)
    student = with_answers(
        student, {StudentUnembedding(): head, StudentEmbedding(): nn.Embedding(V_S, D_S, dtype=torch.float64)}
    )
    return objective, student, batch, context


def close(found: Tensor, wanted: Tensor) -> None:
    assert (found - wanted).abs().max() <= 1e-5 * max(float(wanted.abs().max()), 1e-3)


@pytest.mark.parametrize("shape", SHAPES)
def test_fdd_sends_inner_states_through_the_whole_head(shape: LogitTransform) -> None:
    objective, student, batch, context = world(FDDConfig(), shape, same=True)
    (loss,) = losses_of(objective)
    terms = loss(student, batch)
    inner = [layer for layer, _ in loss.key_layers if layer != loss.last]
    leaves = [
        whole_logits(student),
        *(by_layer(student, StudentHidden)[layer] for layer in inner),
        *student[StudentUnembedding()].parameters(),
    ]
    found = torch.autograd.grad(terms["dynamics"].total, leaves)

    trajectory = derivative = torch.zeros((), dtype=torch.float64)
    for b, s in batch.shared_predictions().nonzero().tolist():
        own, theirs = [], []
        for l_student, l_teacher in loss.key_layers:
            z = whole_logits(student)[b, s]  # shaped already: the model did
            if l_student != loss.last:
                product = [
                    naive.dot(by_layer(student, StudentHidden)[l_student][b, s], row)
                    for row in student[StudentUnembedding()].weight
                ]
                z = shaped(torch.stack(product) + student[StudentUnembedding()].bias, shape)
            own.append(z)
            theirs.append(
                naive.head_logits(
                    context.head, by_layer(batch, TeacherHidden)[l_teacher][b, batch[SameTokenPositions()][b, s]]
                )[:V_S]
            )
        kls = [naive.kl(t, z, loss.config.temperature) for t, z in zip(theirs, own, strict=True)]
        trajectory = trajectory + sum(kls) / len(kls)
        own, theirs = ([naive.log_softmax(z) for z in side] for side in (own, theirs))
        steps = range(len(own) - 1)
        distances = [1 - naive.cos(own[i + 1] - own[i], theirs[i + 1] - theirs[i]) for i in steps]
        derivative = derivative + sum(distances) / len(distances)
    close(terms["trajectory"].total, trajectory.detach())
    close(terms["derivative"].total, derivative.detach())
    wanted = torch.autograd.grad(loss.config.trajectory * trajectory + loss.config.derivative * derivative, leaves)
    for f, w in zip(found, wanted, strict=True):
        close(f, w)


@pytest.mark.parametrize("shape", SHAPES)
def test_dskd_sends_the_teachers_states_through_the_whole_head(shape: LogitTransform) -> None:
    objective, student, batch, _ = world(DSKDConfig(mask_wrong="never"), shape, same=True)
    (loss,) = losses_of(objective)
    terms = loss(student, batch)
    leaves = [whole_logits(student), *loss.t2s.parameters()]
    found = torch.autograd.grad(terms["t2s_ce"].total + terms["t2s_kd"].total, leaves)

    nll = kl = torch.zeros((), dtype=torch.float64)
    weight, bias = student[StudentUnembedding()].weight.detach(), student[StudentUnembedding()].bias.detach()
    for b, s in batch.shared_predictions().nonzero().tolist():
        state = by_layer(batch, TeacherHidden)[loss.hidden.layer][b, batch[SameTokenPositions()][b, s]].double()
        projected = loss.t2s(state)
        z = shaped(torch.stack([naive.dot(projected, row) for row in weight]) + bias, shape)
        nll = nll - naive.log_softmax(z)[batch.tokens_BS[b, s + 1]]
        kl = kl + naive.kl(z.detach(), whole_logits(student)[b, s], loss.config.temperature)
    close(terms["t2s_ce"].total, nll.detach())
    close(terms["t2s_kd"].total, kl.detach())
    for f, w in zip(found, torch.autograd.grad(nll + kl, leaves), strict=True):
        close(f, w)


def test_span_kd_of_a_student_that_soft_caps_is_refused() -> None:
    context = replace(make_context(0), student=StudentSize(L_S, D_S, LogitTransform(1.0, 30.0)))
    with pytest.raises(RunError, match=r"sra: the student soft-caps its logits at 30, .* Set span_kd: 0"):
        build_objective([SRAConfig()], context)
    objective = to_double(build_objective([SRAConfig(span_kd=0)], context))
    student, batch = make_batch(objective, 0)
    assert float(objective(student, batch, counts_of(batch))[0].detach()) > 0

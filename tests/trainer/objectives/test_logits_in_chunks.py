"""Every loss of logits that are made of states and a head, some rows at a time, is what it is of a whole matrix."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from schemas.models.logits import LogitTransform
from tests.trainer.objectives.answers import whole_logits, with_answers
from tests.trainer.objectives.every import EVERY, World, make_world
from tests.trainer.objectives.world import D_S, V_S, counts_of, losses_of
from trainer.objectives.kernels.chunks import ON_CPU
from trainer.student.logits import Logits
from trainer.student.states import StudentHidden, StudentLogits

CHUNKS = {
    "one": replace(ON_CPU, rows=1, product=1, block=1),
    "a few": replace(ON_CPU, rows=2 * V_S, product=3 * V_S, block=V_S),
    "everything": ON_CPU,
}
CAPPED = LogitTransform(scale=0.7, softcap=3.0)


def parts_of_logits(world: World) -> dict[str, Tensor]:
    """Final states, head and bias, leaves that want a gradient."""
    shape = whole_logits(world.student).shape
    g = torch.Generator().manual_seed(5)

    def leaf(*size: int) -> Tensor:
        return torch.randn(*size, generator=g, dtype=torch.float64).requires_grad_()

    return {"states": leaf(*shape[:-1], D_S), "head": leaf(V_S, D_S), "bias": leaf(V_S)}


def measure(world: World, logits: Any, parts: dict[str, Tensor]) -> dict[str, Tensor]:
    """Value, terms and gradients of the objective over these logits, to what they are made of and to all else."""
    of = World(world.objective, world.context, with_answers(world.student, {StudentLogits(): logits}), world.batch)
    leaves = {name: leaf for name, leaf in of.leaves().items() if name != "logits"} | parts
    value, terms = of.objective(of.student, of.batch, counts_of(of.batch))
    found = torch.autograd.grad(value, tuple(leaves.values()), allow_unused=True)
    gradients = [torch.zeros_like(x) if g is None else g for x, g in zip(leaves.values(), found, strict=True)]
    return {"value": value.detach(), **terms, **dict(zip(leaves, gradients, strict=True))}


@pytest.mark.parametrize("transform", [LogitTransform(), CAPPED], ids=["plain", "capped"])
@pytest.mark.parametrize("name", EVERY)
def test_they_are_what_whole_ones_are(name: str, transform: LogitTransform) -> None:
    world = make_world(name)
    if StudentLogits() not in world.objective.of_student:
        assert StudentHidden in {type(request) for request in world.objective.of_student}
        return
    parts = parts_of_logits(world)
    made = Logits(parts["states"], parts["head"], parts["bias"], transform)
    for chunks in CHUNKS.values():
        for loss in losses_of(world.objective):
            loss.chunks = chunks
        whole = measure(world, transform(parts["states"] @ parts["head"].T + parts["bias"]), parts)
        assert whole["states"].abs().max() > 0 and whole["head"].abs().max() > 0
        found = measure(world, made, parts)
        assert found.keys() == whole.keys()
        for key, right in whole.items():
            torch.testing.assert_close(found[key], right, rtol=1e-9, atol=1e-12, msg=f"{key} in chunks of {chunks}")


def test_a_frozen_head_gets_no_gradient() -> None:
    world = make_world("kd with ce")
    parts = parts_of_logits(world)
    frozen = Logits(parts["states"], parts["head"].detach(), None)
    value, _ = world.objective(
        with_answers(world.student, {StudentLogits(): frozen}), world.batch, counts_of(world.batch)
    )
    value.backward()
    gradient = parts["states"].grad
    assert gradient is not None and gradient.abs().max() > 0 and parts["head"].grad is None

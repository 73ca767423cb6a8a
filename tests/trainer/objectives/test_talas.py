"""TALAS against loops written from its equations, and what must not change it."""

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from schemas.cache.arrays import ArrayRecord
from schemas.configs.losses.talas import TALASConfig
from schemas.errors import ConfigError, RunError
from tests.trainer.objectives.answers import by_layer, moved, of_kind, with_answers
from tests.trainer.objectives.world import D_S, D_T, L_S, L_T, counts_of, losses_of, make_batch, make_context, to_double
from trainer.data.batch import Batch
from trainer.data.teacher_states import PooledTeacher
from trainer.objectives.context import StudentSize
from trainer.objectives.objective import Objective, build_objective
from trainer.objectives.talas import contrastive_loss, layer_change_loss
from trainer.student.states import SecondView, StudentPooled, StudentRequest, StudentStates, layers_of

B = 4
TERMS = ("contrastive", "tamd", "lasd")
SWITCHES = {
    "default": {},
    "weights": {"weight": 0.5, "contrastive": 0.3, "tamd": 2.0, "lasd": 0.1},
    "contrastive alone": {"tamd": 0, "lasd": 0},
    "tamd alone": {"contrastive": 0, "lasd": 0},
    "lasd alone": {"contrastive": 0, "tamd": 0},
    "K = 1": {"anchored_layers": 1},
    "K = all": {"anchored_layers": L_S},
    "temperature": {"temperature": 0.7},
    "mean of entries": {"lasd_reduction": "mean"},
    "guide trained": {"lasd_guide": "trained"},
    "reference": {"lasd_reduction": "mean", "lasd_guide": "trained"},
    "no embeddings": {"lasd_embeddings": False},
    "xavier": {"projection": {"init": "xavier"}},
}


def pooled_pair(seed: int = 0) -> Any:
    context = make_context(seed)
    array = ArrayRecord(kind="pooled", layer=L_T, width=D_T, dtype="float32")
    return replace(context, manifest=context.manifest.model_copy(update={"arrays": [array]}))


def make(config: TALASConfig, seed: int = 0, dtype: torch.dtype = torch.float64, samples: int = B) -> Any:
    objective = build_objective([config], pooled_pair(seed))
    if dtype == torch.float64:
        to_double(objective)
    _, batch = make_batch(objective, seed, samples=samples)
    g = torch.Generator().manual_seed(seed)

    def randn(width: int) -> Tensor:
        return torch.randn(samples, width, generator=g, dtype=torch.float64).to(dtype)

    layers = sorted(layers_of(StudentPooled, objective.of_student))
    states: dict[Any, Tensor] = {StudentPooled(layer): randn(D_S).requires_grad_() for layer in layers}
    if SecondView() in objective.of_student:
        states[SecondView()] = randn(D_S).requires_grad_()
    if PooledTeacher() in objective.of_batch:
        batch = with_answers(batch, {PooledTeacher(): randn(D_T)})
    return objective, StudentStates(states), batch


def leaves(student: StudentStates, objective: Objective) -> list[Tensor]:
    second = list(of_kind(student, SecondView).values())
    return [*by_layer(student, StudentPooled).values(), *second, *objective.parameters()]


def gradients(scalar: Tensor, student: StudentStates, objective: Objective) -> list[Tensor]:
    wanted = leaves(student, objective)
    found = torch.autograd.grad(scalar, wanted, allow_unused=True)
    return [torch.zeros_like(x) if g is None else g for g, x in zip(found, wanted, strict=True)]


def cos(u: Any, v: Any) -> Any:
    return sum(a * b for a, b in zip(u, v, strict=True)) / (sum(a * a for a in u).sqrt() * sum(b * b for b in v).sqrt())


def naive(student: StudentStates, batch: Batch, config: TALASConfig, projections: Any) -> Any:
    """L_con, L_TAMD and L_LASD, means over the batch, one number at a time."""
    pooled = {layer: state.double() for layer, state in by_layer(student, StudentPooled).items()}
    n, found = len(batch.sample_ids), dict[str, Any]()
    if config.contrastive:
        u, v = pooled[L_S], student[SecondView()].double()
        found["contrastive"] = 0.0
        for i in range(n):
            scores = [torch.exp(cos(u[i], v[j]) / config.temperature) for j in range(n)]
            found["contrastive"] -= torch.log(scores[i] / sum(scores)) / n
    if config.tamd:
        layers = [L_S - k for k in range(config.anchored_layers)]
        found["tamd"] = 0.0
        for layer in layers:
            for i in range(n):
                carried = [
                    sum(pooled[layer][i][d] * projections[str(layer)].double()[d][e] for d in range(D_S))
                    for e in range(D_T)
                ]
                found["tamd"] += (1 - cos(carried, batch[PooledTeacher()][i].double())) / (n * len(layers))
    if config.lasd:
        layers = list(range(0 if config.lasd_embeddings else 1, L_S + 1))
        entries = n * n if config.lasd_reduction == "mean" else 1
        found["lasd"] = 0.0
        for lower, upper in pairwise(layers):
            for i in range(n):
                for j in range(n):
                    guide = cos(pooled[upper][i], pooled[upper][j])
                    if config.lasd_guide == "detached":
                        guide = guide.detach()
                    change = guide - cos(pooled[lower][i], pooled[lower][j])
                    found["lasd"] += change**2 / (entries * (len(layers) - 1))
    return found


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("switches", SWITCHES.values(), ids=SWITCHES)
def test_against_loops(switches: dict[str, Any], dtype: torch.dtype) -> None:
    config = TALASConfig(**switches)
    objective, student, batch = make(config, seed=1, dtype=dtype)
    expected = naive(student, batch, config, losses_of(objective)[0].projections)
    scalar, parts = objective(student, batch, counts_of(batch))
    assert set(parts) == {f"talas/{name}" for name in TERMS if getattr(config, name) > 0}
    for name, value in expected.items():
        assert parts[f"talas/{name}"].item() == pytest.approx(value.item(), rel=1e-5, abs=1e-7)
    wanted = config.weight * sum(getattr(config, name) * value for name, value in expected.items())
    assert scalar.item() == pytest.approx(wanted.item(), rel=1e-5)
    found, right = gradients(scalar, student, objective), gradients(wanted, student, objective)
    assert any(g.abs().max() > 0 for g in right)
    for f, r in zip(found, right, strict=True):
        assert (f.double() - r.double()).abs().max() <= 1e-5 * max(r.abs().max().item(), 1e-3)


@pytest.mark.parametrize("guide", ["detached", "trained"])
def test_a_detached_guide_learns_nothing(guide: str) -> None:
    """Of the two layers of a pair, the upper one: the last layer is a guide and nothing else."""
    objective, student, batch = make(TALASConfig(contrastive=0, tamd=0, lasd_guide=guide))
    scalar, _ = objective(student, batch, counts_of(batch))
    found = dict(zip(by_layer(student, StudentPooled), gradients(scalar, student, objective), strict=False))
    assert (torch.count_nonzero(found[L_S]) == 0) == (guide == "detached")
    assert all(torch.count_nonzero(found[layer]) > 0 for layer in range(L_S))


def test_directions_alone_count_and_a_common_rotation_does_not() -> None:
    objective, student, batch = make(TALASConfig())
    counts = counts_of(batch)
    _, parts = objective(student, batch, counts)
    scales = torch.rand(B, 1, dtype=torch.float64) + 0.1
    longer = moved(student, StudentRequest, lambda state: scales * state)
    _, same = objective(longer, moved(batch, PooledTeacher, lambda state: 3 * state), counts)
    for name in parts:
        torch.testing.assert_close(same[name], parts[name])
    rotation = torch.linalg.qr(torch.randn(D_S, D_S, dtype=torch.float64)).Q
    stack = torch.stack([by_layer(student, StudentPooled)[layer] for layer in range(L_S + 1)])
    for reduction in ("sum", "mean"):
        turned = layer_change_loss(stack @ rotation, reduction, "detached")
        torch.testing.assert_close(turned, layer_change_loss(stack, reduction, "detached"))
    first, second = stack[0], stack[1]
    torch.testing.assert_close(
        contrastive_loss(first @ rotation, second @ rotation, 0.1), contrastive_loss(first, second, 0.1)
    )


def test_the_order_of_samples_changes_nothing() -> None:
    objective, student, batch = make(TALASConfig(), seed=2)
    counts = counts_of(batch)
    scalar, parts = objective(student, batch, counts)
    other, turned = objective(*pick(student, batch, [2, 0, 3, 1]), counts)
    for name in parts:
        torch.testing.assert_close(turned[name], parts[name])
    for a, b in zip(gradients(other, student, objective), gradients(scalar, student, objective), strict=True):
        torch.testing.assert_close(a, b)


def pick(student: StudentStates, batch: Batch, samples: list[int]) -> tuple[StudentStates, Batch]:
    index = torch.tensor(samples)
    part = replace(batch, sample_ids=tuple(batch.sample_ids[i] for i in samples))
    rows = lambda state: state[index]  # noqa: E731
    return moved(student, StudentRequest, rows), moved(part, PooledTeacher, rows)


def test_accumulated_batches_weigh_by_their_samples() -> None:
    """tamd is that of one large batch; what compares sentences within a pass is a mean over the passes."""
    objective, student, batch = make(TALASConfig(), samples=6)
    counts = counts_of(batch)
    pieces = [[0, 1, 2, 3], [4, 5]]
    alone = []
    for samples in pieces:
        states, part = pick(student, batch, samples)
        alone.append(objective(states, part, {"token": 1, "sample": len(samples)})[1])
    steps = [objective(*pick(student, batch, samples), counts)[1] for samples in pieces]
    _, whole = objective(student, batch, counts)
    torch.testing.assert_close(sum(step["talas/tamd"] for step in steps), whole["talas/tamd"])
    for name in ("talas/lasd", "talas/contrastive"):
        torch.testing.assert_close(sum(step[name] for step in steps), (4 * alone[0][name] + 2 * alone[1][name]) / 6)


def test_limits() -> None:
    g = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, B, D_S, generator=g, dtype=torch.float64)
    # Infinitely soft, every sentence is as likely as any; infinitely sharp and seen twice alike, none is ever missed.
    assert contrastive_loss(first, second, 1e9).item() == pytest.approx(B * math.log(B), rel=1e-6)
    assert contrastive_loss(first, first, 1e-3).item() == pytest.approx(0, abs=1e-6)
    # Layers that agree up to length have nothing to align.
    assert layer_change_loss(torch.stack([first, 2 * first, first / 3]), "sum", "trained").item() < 1e-20
    # The reference's mean of entries is the paper's sum over B^2.
    stack = torch.stack([first, second])
    total, mean = (layer_change_loss(stack, reduction, "detached") for reduction in ("sum", "mean"))
    assert total.item() == pytest.approx(B * B * mean.item())


def test_one_sentence_and_states_of_zero_stay_finite() -> None:
    objective, student, batch = make(TALASConfig(), dtype=torch.float32, samples=1)
    _, parts = objective(student, batch, counts_of(batch))
    assert parts["talas/contrastive"].item() == pytest.approx(0, abs=1e-6)
    assert parts["talas/lasd"].item() == pytest.approx(0, abs=1e-6)
    objective, student, batch = make(TALASConfig(), dtype=torch.float32)
    with torch.no_grad():
        for state in (*by_layer(student, StudentPooled).values(), student[SecondView()]):
            state[0] = 0.0
    scalar, _ = objective(student, batch, counts_of(batch))
    assert torch.isfinite(scalar)
    for gradient in gradients(scalar, student, objective):
        assert torch.isfinite(gradient).all() and gradient.abs().max() < 100


def test_half_precision_states_are_computed_in_float32() -> None:
    objective, student, batch = make(TALASConfig(), dtype=torch.float32)
    half = moved(student, StudentRequest, torch.Tensor.bfloat16)
    full = moved(half, StudentRequest, torch.Tensor.float)
    with torch.autocast("cpu", torch.bfloat16):
        _, found = objective(half, batch, counts_of(batch))
    _, wanted = objective(full, batch, counts_of(batch))
    assert {name: part.item() for name, part in found.items()} == {n: p.item() for n, p in wanted.items()}


def test_what_is_off_is_neither_read_nor_computed() -> None:
    assert SecondView() not in make(TALASConfig(contrastive=0))[0].of_student
    anchorless = build_objective([TALASConfig(tamd=0)], make_context())  # a cache without sentence embeddings will do
    assert not anchorless.of_batch and not list(anchorless.parameters())
    assert layers_of(StudentPooled, make(TALASConfig(lasd=0))[0].of_student) == {L_S - 1, L_S}


def test_refusals() -> None:
    with pytest.raises(RunError, match=r"talas needs the teacher's sentence embeddings.*states\.pooled"):
        build_objective([TALASConfig()], make_context())
    with pytest.raises(ConfigError, match=f"anchored_layers: {L_S + 1} of a student with only {L_S} layers"):
        build_objective([TALASConfig(anchored_layers=L_S + 1)], pooled_pair())
    with pytest.raises(ConfigError, match="lasd_embeddings: true"):
        single = replace(pooled_pair(), student=StudentSize(1, D_S))
        build_objective([TALASConfig(anchored_layers=1, lasd_embeddings=False)], single)
    with pytest.raises(ValidationError, match="the loss would be nothing"):
        TALASConfig(contrastive=0, tamd=0, lasd=0)

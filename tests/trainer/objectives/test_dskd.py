"""DSKD against its equations in plain loops, its detach rules, its invariances, and a teacher that runs live."""

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from schemas.cache.teacher import HeadRecord
from schemas.configs.losses.dskd import DSKDConfig
from schemas.errors import RunError
from tests.trainer.objectives.answers import by_layer, whole_logits, with_answers
from tests.trainer.objectives.naive_dskd import TERMS, naive_dskd
from tests.trainer.objectives.precision import assert_as_precise, in_double, numbered
from tests.trainer.objectives.world import (
    D_S,
    D_T,
    L_S,
    L_T,
    SEEDS,
    V_S,
    V_T,
    counts_of,
    losses_of,
    make_batch,
    make_context,
    pick,
)
from tests.trainer.objectives.world import to_double as projectors_to_double
from trainer.data.batch import Batch
from trainer.data.teacher_states import TeacherHidden
from trainer.data.tied_tokens import SameTokenPositions
from trainer.objectives.dskd import head_cross_entropy, head_forward_kl
from trainer.objectives.kernels.chunks import ON_CPU
from trainer.objectives.objective import Objective, build_objective
from trainer.student.states import StudentEmbedding, StudentHidden, StudentStates, StudentUnembedding

SOFTCAPPED = HeadRecord(dtype="float32", bias=False, scale=0.5, softcap=3.0)
sides = pytest.mark.parametrize("same", [True, False], ids=["one tokenizer", "two tokenizers"])


def world(
    config: DSKDConfig,
    same: bool,
    seed: int = 0,
    samples: int = 5,
    dtype: torch.dtype = torch.float64,
    record: HeadRecord | None = None,
) -> Any:
    """Objective, student and batch; the student has its own embeddings, and one sample no targets of the teacher's."""
    torch.manual_seed(seed)
    context = replace(make_context(seed, same=same, record=record), embedding_Vd=torch.randn(V_T, D_T))
    objective = build_objective([config], context)
    if dtype == torch.float64:
        projectors_to_double(objective)
    student, batch = make_batch(objective, seed, samples=samples, same=same, dtype=dtype)
    batch.teacher_target_BT[3] = False
    embedding = torch.nn.Embedding(V_S, D_S, dtype=dtype)
    unembedding = torch.nn.Linear(D_S, V_S, dtype=dtype)
    unembedding.bias.data[2] += 1.0  # a token that the projected teacher often says, and the texts often have
    batch.tokens_BS[:, ::2] = 2
    return (
        objective,
        with_answers(student, {StudentEmbedding(): embedding, StudentUnembedding(): unembedding}),
        batch,
        context,
    )


def leaves(objective: Objective, student: StudentStates) -> list[Tensor]:
    modules = [*student[StudentEmbedding()].parameters(), *student[StudentUnembedding()].parameters()]
    return [whole_logits(student), *by_layer(student, StudentHidden).values(), *objective.parameters(), *modules]


def gradients(scalar: Tensor, objective: Objective, student: StudentStates) -> list[Tensor]:
    wanted = leaves(objective, student)
    found = torch.autograd.grad(scalar, wanted, allow_unused=True)
    return [torch.zeros_like(leaf) if g is None else g for g, leaf in zip(found, wanted, strict=True)]


SWITCHES = {
    "default": {},
    "masked": {"mask_wrong": "always"},
    "not masked": {"mask_wrong": "never"},
    "student space": {"teacher_space": 0},
    "teacher space": {"student_space": 0},
    "weights": {"weight": 0.5, "student_space": 0.3, "teacher_space": 2.0, "temperature": 1.0},
    "no bias": {"projectors": {"bias": False, "init": "orthogonal"}},
    "xavier": {"projectors": {"init": "xavier", "lr": 0.1}},
}


@sides
@pytest.mark.parametrize("switches", SWITCHES.values(), ids=SWITCHES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
def test_values_and_every_gradient_are_the_equations(switches: dict[str, Any], same: bool, dtype: torch.dtype) -> None:
    for seed in SEEDS[dtype]:
        assert_equal_to_naive(DSKDConfig(**switches), same, seed, dtype=dtype)


def test_a_soft_capped_teacher() -> None:
    assert_equal_to_naive(DSKDConfig(), False, 2, record=SOFTCAPPED)


def assert_equal_to_naive(
    config: DSKDConfig, same: bool, seed: int, dtype: torch.dtype = torch.float64, record: HeadRecord | None = None
) -> None:
    objective, student, batch, context = world(config, same, seed, dtype=dtype, record=record)
    counts = counts_of(batch)
    terms = losses_of(objective)[0](student, batch)
    assert objective.divisors == {"pair" if same else "token"}
    student_terms = ("t2s_ce", "t2s_kd", "t2s_acc") if config.student_space else ()
    assert set(terms) == {*student_terms, *(("s2t_kd",) if config.teacher_space else ())}
    weight = {"t2s_ce": config.student_space, "t2s_kd": config.student_space, "s2t_kd": config.teacher_space}

    def naively(objective: Objective, student: StudentStates, batch: Batch) -> Any:
        totals = naive_dskd(losses_of(objective)[0], student, batch, context, config, same)
        value = config.weight * sum(weight[name] * totals[name] for name in TERMS) / counts["pair" if same else "token"]
        found = {name: totals[name].detach() for name in terms} | {"objective": value.detach()}
        return found | numbered(gradients(value, objective, student))

    scalar, _ = objective(student, batch, counts)
    found = {name: term.total.detach() for name, term in terms.items()} | {"objective": scalar.detach()}
    found |= numbered(gradients(scalar, objective, student))
    right = naively(projectors_to_double(copy.deepcopy(objective)), *in_double(student, batch))
    assert_as_precise(found, right, right if dtype == torch.float64 else naively(objective, student, batch))


@sides
def test_some_tokens_are_right_and_some_wrong_in_these_worlds(same: bool) -> None:
    objective, student, batch, _ = world(DSKDConfig(), same)
    terms = losses_of(objective)[0](student, batch)
    assert 0 < terms["t2s_acc"].total < batch.count(losses_of(objective)[0].divisor)
    assert terms["t2s_kd"].total > 0


@sides
@pytest.mark.parametrize("term", TERMS)
def test_detach_rules(term: str, same: bool) -> None:
    """Which parameters a term teaches, as the authors' code has it: the student's head and embeddings never."""
    objective, student, batch, _ = world(DSKDConfig(mask_wrong="never"), same)
    (loss,) = losses_of(objective)
    by_layer(batch, TeacherHidden)[L_T].requires_grad_()
    loss(student, batch)[term].total.backward()
    taught = {
        "logits": whole_logits(student).grad,
        "hidden": by_layer(student, StudentHidden)[L_S].grad,
        "t2s": loss.t2s.weight.grad,
        "s2t": loss.s2t.weight.grad,
        "query": None if same else loss.attention.query.weight.grad,
        "embedding": student[StudentEmbedding()].weight.grad,
        "unembedding": student[StudentUnembedding()].weight.grad,
        "bias": student[StudentUnembedding()].bias.grad,
    }
    found = {name for name, gradient in taught.items() if gradient is not None and gradient.abs().max() > 1e-6}
    links = set() if same else {"query"}
    assert found == {"t2s_ce": {"t2s"} | links, "t2s_kd": {"logits"}, "s2t_kd": {"hidden", "s2t"} | links}[term]
    assert not any(buffer.requires_grad for buffer in loss.buffers())


@sides
def test_accumulated_batches_weigh_as_one_large_batch(same: bool) -> None:
    objective, student, batch, _ = world(DSKDConfig(), same, 2, samples=6, dtype=torch.float32)
    counts = counts_of(batch)
    results = [objective(*pick(student, batch, samples), counts) for samples in ([0], [1, 2, 3], [4, 5])]
    summed = sum(r[0] for r in results), {name: sum(r[1][name] for r in results) for name in results[0][1]}
    assert_same(objective, student, objective(student, batch, counts), summed)


def assert_same(objective: Objective, student: StudentStates, first: Any, second: Any) -> None:
    assert first[1].keys() == second[1].keys()
    for name in first[1]:
        torch.testing.assert_close(second[1][name], first[1][name], rtol=1e-5, atol=1e-7)
    pairs = zip(gradients(second[0], objective, student), gradients(first[0], objective, student), strict=True)
    for found, wanted in pairs:
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-7)


@sides
def test_a_step_of_nothing_is_zero_and_finite(same: bool) -> None:
    objective, student, batch, _ = world(DSKDConfig(), same)
    batch = replace(batch, target_BS=torch.zeros_like(batch.target_BS))
    scalar, parts = objective(student, batch, counts_of(batch))
    assert scalar.item() == 0.0
    assert all(value.item() == 0.0 for value in parts.values())
    for gradient in gradients(scalar, objective, student):
        assert torch.count_nonzero(gradient) == 0


def test_states_without_variance_stay_finite() -> None:
    objective, student, batch, _ = world(DSKDConfig(), False, dtype=torch.float32)
    by_layer(batch, TeacherHidden)[L_T][0] = 0.0
    by_layer(batch, TeacherHidden)[L_T][2] = 1.0
    losses_of(objective)[0].embedding_Ve.zero_()
    scalar, _ = objective(student, batch, counts_of(batch))
    assert torch.isfinite(scalar)
    for gradient in gradients(scalar, objective, student):
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("rows", [1, 2, 40])
def test_chunks_change_nothing_and_float32_errs_no_more_than_plain_float32(rows: int) -> None:
    """Value and gradient of the two chunked losses, at 500 tokens, against float64 and against plain float32.

    Plain autograd takes the same rows at once, for products of other shapes sum in another order, and a row by itself
    errs up to 1.7 times as much as 40 together. What is left is the same arithmetic, to the last digits of a value.
    """
    chunks = replace(ON_CPU, rows=500 * rows)
    g = torch.Generator().manual_seed(0)
    weight, states, truth = (torch.randn(n, 16, generator=g) for n in (500, 40, 40))
    target = torch.randint(0, 500, (40,), generator=g)

    def plain(x: Tensor) -> Any:
        nll = kl = 0.0
        for x_n, truth_n, target_n in zip(*(y.split(rows) for y in (x, truth.to(x.dtype), target)), strict=True):
            logits, teacher = (y @ weight.to(x.dtype).T for y in (x_n, truth_n))
            log_q, log_p = ((z / 2).log_softmax(-1) for z in (logits, teacher))
            nll = nll - logits.log_softmax(-1).gather(1, target_n[:, None]).sum()
            kl = kl + (log_p.exp() * (log_p - log_q)).sum()
        return nll, kl

    def chunked(x: Tensor) -> Any:
        head = lambda h: h @ weight.to(h.dtype).T  # noqa: E731
        nll, right = head_cross_entropy(x, target, head, 500, chunks)
        assert right.tolist() == [int((weight @ row).argmax()) == t for row, t in zip(states, target, strict=True)]
        return nll, head_forward_kl(x, truth.to(x.dtype), head, 500, 2.0, chunks)

    def measured(losses: Any, dtype: torch.dtype) -> Any:
        x = states.to(dtype).requires_grad_()
        values = losses(x)
        gradients = [torch.autograd.grad(value, x, retain_graph=True)[0] for value in values]
        return [x.detach().double() for x in (*values, *gradients)]

    kinds = (chunked, torch.float64), (chunked, torch.float32), (plain, torch.float32), (plain, torch.float64)
    for exact, found, usual, wanted in zip(*(measured(*kind) for kind in kinds), strict=True):
        torch.testing.assert_close(exact, wanted, rtol=1e-12, atol=1e-12)
        error, allowed = (float((x - wanted).norm() / wanted.norm()) for x in (found, usual))
        assert error <= (1.1 * allowed if found.ndim else max(1.1 * allowed, torch.finfo(torch.float32).eps))


def test_refusals() -> None:
    context = make_context(same=False)
    with pytest.raises(RunError, match="keep_embeddings: true"):
        build_objective([DSKDConfig()], context)
    with pytest.raises(RunError, match=f"embeddings 3 wide and states {D_T}"):
        build_objective([DSKDConfig()], replace(context, embedding_Vd=torch.randn(V_T, 3)))
    with pytest.raises(RunError, match=r"is an encoder\. Use sra with span_kd: 0"):
        build_objective([DSKDConfig()], make_context(same=True, kind="encoder"))
    with pytest.raises(RunError, match=f"dskd needs the teacher's hidden layers {L_T}"):
        build_objective([DSKDConfig()], make_context(same=True, hidden=[1]))
    with pytest.raises(ValidationError, match="both 0"):
        DSKDConfig(student_space=0, teacher_space=0)
    objective, student, batch, _ = world(DSKDConfig(), False, dtype=torch.float32)
    with pytest.raises(RunError, match=f"embeddings are 2 wide and its states {D_S}"):
        objective(with_answers(student, {StudentEmbedding(): torch.nn.Embedding(V_S, 2)}), batch, counts_of(batch))


def test_one_tokenizer_needs_no_embeddings_and_two_no_pairs() -> None:
    one = build_objective([DSKDConfig()], make_context(same=True))
    assert SameTokenPositions() in one.of_batch and StudentEmbedding() not in one.of_student
    assert SameTokenPositions() not in world(DSKDConfig(), False)[0].of_batch


def test_projectors_have_their_own_rate_and_start() -> None:
    objective = world(DSKDConfig(projectors={"lr": 0.02, "bias": False, "init": "orthogonal"}), False)[0]
    (group,) = objective.parameter_groups()
    assert (group["lr"], group["weight_decay"], len(group["params"])) == (0.02, 0.0, 3)
    query = losses_of(objective)[0].attention.query.weight
    assert query.shape == (2 * D_T, 2 * D_S)
    torch.testing.assert_close(query @ query.T, torch.eye(2 * D_T, dtype=query.dtype), atol=1e-5, rtol=0)
    assert len(world(DSKDConfig(), False)[0].parameter_groups()[0]["params"]) == 6

"""The KD family against naive float64 loops: every divergence, for exact, top-k and sampled teacher logits."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from pipeline.teacher.kinds.top_k import top_k
from schemas.cache.kinds.next_token import NO_TAIL, SparseRecord
from schemas.cache.teacher import HeadRecord
from schemas.configs.losses.kd import KDConfig
from schemas.errors import RunError
from tests.trainer.objectives import naive
from tests.trainer.objectives.answers import by_layer, whole_logits, with_answers
from tests.trainer.objectives.divergences import DIVERGENCES, with_tail
from tests.trainer.objectives.matches import DTYPES, SOFTCAPPED, assert_matches
from tests.trainer.objectives.precision import gradient_of
from tests.trainer.objectives.world import (
    L_T,
    V_S,
    V_T,
    counts_of,
    losses_of,
    make_batch,
    make_context,
    pick,
)
from trainer.data.batch import Batch
from trainer.data.teacher_states import SparseLogits, SparseTeacher, TeacherHidden
from trainer.data.tied_tokens import SameTokenPositions
from trainer.objectives.kernels.chunks import ON_CPU
from trainer.objectives.kernels.divergences import choose_divergence, forward_kl
from trainer.objectives.kernels.row_losses import row_losses
from trainer.objectives.kernels.teacher_rows import exact_rows, sampled_rows, top_k_rows
from trainer.objectives.objective import Objective, build_objective
from trainer.student.states import StudentLogits, StudentStates

each = pytest.mark.parametrize("name", DIVERGENCES)


def value(name: str, p: list[Any], q: list[Any], options: Any) -> Any:
    """D(p, q) of two lists of probabilities, one event at a time."""

    def kl(a: Any, b: Any) -> Any:
        return sum(x * torch.log(x / y) for x, y in zip(a, b, strict=True) if x > 0)

    def mixed(a: Any, b: Any, share: float) -> Any:
        return [share * x + (1 - share) * y for x, y in zip(a, b, strict=True)]

    match name:
        case "forward_kl":
            return kl(p, q)
        case "reverse_kl":
            return kl(q, p)
        case "js":
            m = mixed(p, q, options["beta"])
            return options["beta"] * kl(p, m) + (1 - options["beta"]) * kl(q, m)
        case "total_variation":
            return sum((x - y).abs() for x, y in zip(p, q, strict=True)) / 2
        case "skew_forward_kl":
            return kl(p, mixed(p, q, options["skew"]))
        case "skew_reverse_kl":
            return kl(q, mixed(q, p, options["skew"]))
    held, gap_head, gap_tail = 0.0, 0.0, 0.0
    for x, y in sorted(zip(p, q, strict=True), key=lambda context: -float(context[0])):
        gap = float((x - y).detach().abs())
        gap_head, gap_tail = (gap_head + gap, gap_tail) if held < options["head"] else (gap_head, gap_tail + gap)
        held += float(x)
    return (gap_head * kl(p, q) + gap_tail * kl(q, p)) / (gap_head + gap_tail)


def setting(
    name: str,
    logits: str = "exact",
    temperature: float = 1.0,
    k: int = 3,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
) -> Any:
    """Objective, student, batch, and the teacher's distribution [B, T, V_T] at this temperature."""
    context = make_context(seed, same=True)
    config = KDConfig(divergence=name, logits=logits, temperature=temperature, **DIVERGENCES[name])
    if logits != "exact":
        record = SparseRecord(temperature=temperature, entries=k)
        context = replace(context, manifest=context.manifest.model_copy(update={"sparse": {logits: record}}))
    objective = build_objective([config], context)
    student, batch = make_batch(objective, seed, same=True, dtype=dtype)
    g = torch.Generator().manual_seed(seed)
    hidden = by_layer(batch, TeacherHidden).get(L_T)
    if hidden is None:
        hidden = torch.randn(*batch.teacher_mask_BT.shape, context.head.weight_Vd.shape[1], generator=g)
    z = (hidden.double() @ context.head.weight_Vd.double().T + context.head.bias_V.double()) / temperature
    p = z.softmax(-1)
    if logits == "top_k":
        values, ids = with_tail(p, k)
        batch = with_answers(batch, {SparseTeacher("top_k"): SparseLogits(ids, values.to(dtype))})
    if logits == "sampled":
        ids = torch.multinomial(p.flatten(0, 1), k, replacement=True, generator=g).view(*p.shape[:2], k)
        batch = with_answers(
            batch, {SparseTeacher("sampled"): SparseLogits(ids, torch.full(ids.shape, 1 / k, dtype=dtype))}
        )
    return objective, student, batch, p


def one_by_one(name: str, logits: str, student: StudentStates, batch: Batch, p: Tensor, temperature: float) -> Any:
    """The sum over paired positions, and its gradient to the logits."""
    z = whole_logits(student).detach().double().requires_grad_()
    total = z.sum() * 0
    for b, s in batch.shared_predictions().nonzero().tolist():
        t = int(batch[SameTokenPositions()][b, s])
        teacher = p[b, t]
        if logits == "exact":  # over the tokens that both have
            teacher = (teacher[:V_S] / teacher[:V_S].sum()).double()
        q = (z[b, s] / temperature).softmax(-1)
        if logits == "exact":
            part = value(name, list(teacher), list(q), DIVERGENCES[name])
        elif logits == "top_k":
            ids = [i for i in batch[SparseTeacher("top_k")].ids_BTn[b, t].tolist() if i < V_S]
            events_p = [*(teacher[i] for i in ids), batch[SparseTeacher("top_k")].values_BTn[b, t, -1].double().exp()]
            events_q = [*(q[i] for i in ids), sum(q[i] for i in range(V_S) if i not in ids)]
            part = value(name, [x / sum(events_p) for x in events_p], events_q, DIVERGENCES[name])
        else:
            stored = batch[SparseTeacher("sampled")]
            entries = zip(stored.ids_BTn[b, t].tolist(), stored.values_BTn[b, t].tolist(), strict=True)
            part = -sum(w * torch.log(q[i]) for i, w in entries if i < V_S)
        total = total + temperature**2 * part
    return total, torch.autograd.grad(total, z)[0]


def close(found: Tensor, wanted: Tensor, tolerance: float = 1e-5) -> None:
    scale = max(float(wanted.abs().max()), 1e-3)
    assert float((found.double() - wanted).abs().max()) <= tolerance * scale


def evaluate(objective: Objective, student: StudentStates, batch: Batch) -> Any:
    (loss,) = losses_of(objective)
    (term,) = loss(student, batch).values()
    assert loss.divisor == "pair"
    return term.total, torch.autograd.grad(term.total, whole_logits(student))[0]


CASES = [(name, "exact") for name in DIVERGENCES] + [(name, "top_k") for name in DIVERGENCES]


@pytest.mark.parametrize(("name", "logits"), [*CASES, ("forward_kl", "sampled")])
@pytest.mark.parametrize(("seed", "temperature"), [(0, 1.0), (1, 2.0), (2, 0.7)])
def test_values_and_gradients(name: str, logits: str, seed: int, temperature: float) -> None:
    objective, student, batch, p = setting(name, logits, temperature, seed=seed)
    total, gradient = evaluate(objective, student, batch)
    wanted, wanted_gradient = one_by_one(name, logits, student, batch, p, temperature)
    close(total.detach(), wanted.detach())
    close(gradient, wanted_gradient)


@pytest.mark.parametrize(("name", "logits"), [*CASES, ("forward_kl", "sampled")])
def test_float32_keeps_its_digits(name: str, logits: str) -> None:
    objective, student, batch, p = setting(name, logits, 2.0, seed=3, dtype=torch.float32)
    total, gradient = evaluate(objective, student, batch)
    wanted, wanted_gradient = one_by_one(name, logits, student, batch, p, 2.0)
    close(total.detach(), wanted.detach())
    close(gradient, wanted_gradient)


def row_of(rows: Any, logits_V: Tensor) -> Any:
    """The loss of one row of logits, and its gradient."""
    logits_1V = logits_V[None].clone().requires_grad_()
    total = row_losses(logits_1V, torch.arange(1), logits_V.shape[0], rows)
    return total.detach(), torch.autograd.grad(total, logits_1V)[0][0]


@each
@pytest.mark.parametrize("more", [0, 3])
def test_top_k_is_a_lower_bound_and_with_all_tokens_exact(name: str, more: int) -> None:
    """Telling events apart can only raise a divergence: so says the data processing inequality.

    The student may have `more` tokens than the teacher: all kinds of logits are over those that both have.
    """
    g = torch.Generator().manual_seed(4)
    z, student = torch.randn(V_T, generator=g).double(), torch.randn(V_T + more, generator=g).double()
    divergence = choose_divergence(KDConfig(divergence=name, **DIVERGENCES[name]))
    before = -1.0
    for k in (1, 3, 5, V_T):
        values, ids = with_tail(z.softmax(-1)[None], k)
        found, gradient = row_of(top_k_rows(ids, values, V_T, 1.0, divergence), student)
        if name != "adaptive_kl":  # its weights depend on the events
            assert float(found) >= before - 1e-9
        before = float(found)
    wanted, wanted_gradient = row_of(exact_rows(lambda rows: z[None][rows], V_T, 1.0, divergence), student)
    assert before == pytest.approx(float(wanted), rel=1e-9)
    torch.testing.assert_close(gradient, wanted_gradient, rtol=1e-9, atol=1e-12)
    assert (gradient[V_T:] == 0).all()


@each
@pytest.mark.parametrize("gap", [10.0, 22.0])
def test_a_small_tail_is_no_other_than_it_is(name: str, gap: float) -> None:
    """At a gap of 22 it holds 3e-9: in float32, what is left of 1 would be 0, and reverse KL 5,000 nats."""
    g = torch.Generator().manual_seed(5)
    z = torch.cat([torch.tensor([gap, 1.0]), torch.randn(V_T - 2, generator=g) - 1])
    student = torch.randn(V_T, generator=g).double()
    ids, stored = top_k(z.log_softmax(-1)[None], 2)
    divergence = choose_divergence(KDConfig(divergence=name, **DIVERGENCES[name]))
    found, gradient = row_of(top_k_rows(ids, stored, V_T, 1.0, divergence), student.float())

    q = student.requires_grad_().softmax(-1)
    p = z.double().softmax(-1)
    events = [[*x[:2], x[2:].sum()] for x in (p, q)]
    wanted = value(name, events[0], events[1], DIVERGENCES[name])
    close(found, wanted.detach())
    close(gradient, torch.autograd.grad(wanted, student)[0])


@pytest.mark.parametrize("more", [0, 3])
def test_all_tokens_drawn_once_are_the_exact_forward_kl(more: int) -> None:
    g = torch.Generator().manual_seed(6)
    z, student = torch.randn(V_T, generator=g).double(), torch.randn(V_T + more, generator=g).double()
    p = z.softmax(-1)
    found, gradient = row_of(sampled_rows(torch.arange(V_T)[None], p[None], V_T, 1.0), student)
    wanted, wanted_gradient = row_of(exact_rows(lambda rows: z[None][rows], V_T, 1.0, forward_kl), student)
    torch.testing.assert_close(found + (p * p.log()).sum(), wanted, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(gradient, wanted_gradient, rtol=1e-9, atol=1e-12)


@each
@pytest.mark.parametrize("logits", ["exact", "top_k"])
def test_a_student_that_is_its_teacher_has_nothing_to_learn(name: str, logits: str) -> None:
    objective, student, batch, p = setting(name, logits, k=4, seed=5)
    logits_BSV = torch.full_like(whole_logits(student), -30.0)
    for b, s in batch.shared_predictions().nonzero().tolist():
        logits_BSV[b, s] = p[b, int(batch[SameTokenPositions()][b, s]), :V_S].log()
    if logits == "top_k":  # the tail must be one that the student can have
        stored = batch[SparseTeacher("top_k")]
        known = stored.ids_BTn < V_S
        spread = (p[..., :V_S] / p[..., :V_S].sum(-1, keepdim=True)).log()
        ids = torch.where(known, stored.ids_BTn, 0)
        values = torch.where(known, spread.gather(-1, ids), NO_TAIL)
        tail = torch.log1p(-values.exp().sum(-1, keepdim=True)).clamp_min(NO_TAIL)
        values = torch.cat([values, tail], -1)
        batch = with_answers(batch, {SparseTeacher("top_k"): SparseLogits(stored.ids_BTn, values)})
    student = with_answers(student, {StudentLogits(): logits_BSV.requires_grad_()})
    total, gradient = evaluate(objective, student, batch)
    tolerance = 1e-5 if logits == "exact" else 1e-9  # the teacher's head computes in float32
    assert abs(float(total.detach())) < tolerance
    if name != "total_variation":  # whose slope jumps there
        assert float(gradient.abs().max()) < tolerance


def test_limits_of_skew_and_beta() -> None:
    found = {}
    for name, options in (
        ("forward_kl", {}),
        ("reverse_kl", {}),
        ("skew_forward_kl", {"skew": 0.0}),
        ("skew_reverse_kl", {"skew": 0.0}),
        ("js", {"beta": 1e-6}),
        ("js", {"beta": 1 - 1e-6}),
    ):
        objective = build_objective([KDConfig(divergence=name, **options)], make_context(6, same=True))
        student, batch = make_batch(objective, 6, same=True)
        found[name, *options.values()] = evaluate(objective, student, batch)
    forward, reverse = found["forward_kl",], found["reverse_kl",]
    for part in range(2):
        torch.testing.assert_close(found["skew_forward_kl", 0.0][part], forward[part])
        torch.testing.assert_close(found["skew_reverse_kl", 0.0][part], reverse[part])
        torch.testing.assert_close(found["js", 1e-6][part] / 1e-6, forward[part], rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(found["js", 1 - 1e-6][part] / 1e-6, reverse[part], rtol=1e-3, atol=1e-4)


def test_draws_have_the_exact_gradient_on_average_and_top_k_has_not() -> None:
    """10,000 times 8 draws: their mean is within five standard errors of the exact gradient; a top-2 stays away."""
    g = torch.Generator().manual_seed(7)
    z, teacher = torch.randn(V_S, generator=g, dtype=torch.float64), torch.randn(V_S, generator=g, dtype=torch.float64)
    p, q = teacher.softmax(-1), z.softmax(-1)
    exact = q - p
    draws, repeats = 8, 10_000
    proposal = p.sqrt() / p.sqrt().sum()
    ids = torch.multinomial(proposal, draws * repeats, replacement=True, generator=g).view(repeats, draws)
    weights = (p / proposal)[ids] / draws
    batch_logits = z.expand(repeats, 1, V_S).clone().requires_grad_()
    rows = torch.arange(repeats)
    flat = batch_logits.flatten(0, 1)
    row_losses(flat, rows, V_S, sampled_rows(ids, weights, V_S, 1.0)).backward()
    gradients = gradient_of(batch_logits)[:, 0]
    error = gradients.std(0) / math.sqrt(repeats)
    assert ((gradients.mean(0) - exact).abs() <= 5 * error).all()

    values, top = with_tail(p, 2)
    one = z[None].clone().requires_grad_()
    row_losses(one, torch.arange(1), V_S, top_k_rows(top[None], values[None], V_S, 1.0, forward_kl)).backward()
    bias = (gradient_of(one)[0] - exact).norm()
    assert bias > 10 * error.norm()


@each
@pytest.mark.parametrize("logits", ["exact", "top_k"])
def test_chunks_do_not_matter_and_bound_the_memory(name: str, logits: str) -> None:
    objective, student, batch, _ = setting(name, logits, seed=8)
    whole = evaluate(objective, student, batch)
    (loss,) = losses_of(objective)
    loss.chunks = replace(ON_CPU, rows=2 * V_T, product=2 * V_T)
    rows = []
    if logits == "exact":
        loss.head.register_forward_hook(lambda module, inputs, output: rows.append(len(output)))
    cut = evaluate(objective, student, batch)
    assert logits != "exact" or (max(rows) <= 2 and len(rows) > 3)
    for found, wanted in zip(cut, whole, strict=True):  # the teacher's head computes in float32
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)


@each
def test_order_of_samples_and_accumulation_do_not_matter(name: str) -> None:
    objective, student, batch, _ = setting(name, seed=9)
    counts = counts_of(batch)
    whole = objective(student, batch, counts)[0]
    parts = [objective(*pick(student, batch, samples), counts)[0] for samples in ([3, 1], [2, 0])]
    torch.testing.assert_close(sum(parts), whole)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValidationError, match="`skew` belongs to skew_forward_kl and skew_reverse_kl, not to js"):
        KDConfig(divergence="js", skew=0.3)
    with pytest.raises(ValidationError, match="estimate forward_kl alone without bias, not reverse_kl"):
        KDConfig(divergence="reverse_kl", logits="sampled")
    with pytest.raises(RunError, match=r"Run `stillroom extend` with states\.top_k, or set logits: exact"):
        build_objective([KDConfig(logits="top_k")], make_context(same=True))
    context = make_context(same=True)
    record = SparseRecord(temperature=2.0, entries=3)
    context = replace(context, manifest=context.manifest.model_copy(update={"sparse": {"sampled": record}}))
    with pytest.raises(RunError, match=r"have temperature 2, the loss 1; .* Set temperature: 2"):
        build_objective([KDConfig(logits="sampled")], context)


def test_a_written_config_is_read_again() -> None:
    for name, options in DIVERGENCES.items():
        config = KDConfig(divergence=name, **options)
        assert KDConfig.model_validate(config.model_dump()) == config


@DTYPES
@pytest.mark.parametrize(("seed", "temperature", "record"), [(0, 1.0, None), (1, 2.0, SOFTCAPPED), (2, 0.5, None)])
def test_exact_forward_kl_is_the_plain_loop(
    seed: int, temperature: float, record: HeadRecord | None, dtype: torch.dtype
) -> None:
    context = make_context(seed, same=True, record=record)

    def truth(loss: Any, student: StudentStates, batch: Batch) -> Any:
        return naive.kd(student, batch, context.head, L_T, temperature)

    assert_matches(KDConfig(temperature=temperature), context, seed, dtype, truth, same=True)

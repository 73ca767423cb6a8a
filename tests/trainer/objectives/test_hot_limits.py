"""What the losses with a temperature tend to as it grows, by expansion in 1/tau of both distributions.

softmax(z / tau) = (1 + u / tau) / V + O(1 / tau^2) for logits z of V tokens, u being them centred. So KL either way is
sum (u - v)^2 / (2 V tau^2) (Hinton et al., 2015, equation 4), and a distance |p - q| is sum |u - v| / (V tau). Value
and gradient are compared; the gradient of a limit is autograd's. FDD, ALM and TALAS do this in their own files.
"""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from schemas.cache.kinds.next_token import SparseRecord
from schemas.configs.losses.dskd import DSKDConfig
from schemas.configs.losses.kd import KDConfig
from schemas.configs.losses.mined import MinEDConfig
from schemas.configs.losses.multilevel_ot import MultiLevelOTConfig
from schemas.configs.losses.sra import SRAConfig
from schemas.configs.losses.uld import ULDConfig
from schemas.models.teacher_head import TeacherHead
from tests.trainer.objectives import naive
from tests.trainer.objectives.answers import by_layer, whole_logits, with_answers
from tests.trainer.objectives.divergences import DIVERGENCES, with_tail
from tests.trainer.objectives.precision import close
from tests.trainer.objectives.predicting import student_positions, teacher_positions
from tests.trainer.objectives.words import STUDENT, TEACHER
from tests.trainer.objectives.world import D_S, L_S, L_T, V_S, V_T, losses_of, make_batch, make_context, to_double
from trainer.alignment.vocabulary import share_vocabulary
from trainer.data.batch import Batch
from trainer.data.teacher_states import SparseLogits, SparseTeacher, TeacherHidden, TeacherMass
from trainer.data.tied_tokens import SameTokenPositions
from trainer.objectives.objective import Objective, build_objective
from trainer.student.states import StudentHidden, StudentLogits, StudentMass, StudentStates, StudentUnembedding

TAU = 1e5
TOLERANCE = 1e-3  # what is left out is 1 / tau of the logits, times their size
K = 3


class DoubleHead(nn.Module):
    """The teacher's head in float64: in float32 differences of 1 / tau drown."""

    def __init__(self, head: Any) -> None:
        super().__init__()
        self.weight_Vd, self.bias_V, self.transform = head.weight_Vd.double(), head.bias_V.double(), head.transform

    def forward(self, hidden: Tensor, ids: Tensor | None = None, temperature: float = 1.0) -> Any:
        logits = hidden @ self.weight_Vd.T + self.bias_V
        return (logits if ids is None else logits[..., ids]) / temperature

    def restricted(self, ids: Tensor) -> "DoubleHead":
        return DoubleHead(TeacherHead(self.weight_Vd[ids], self.bias_V[ids], self.transform))


def world(config: Any, same: bool = False, **changes: Any) -> Any:
    """The loss, the student and the batch, all of it in float64; a student of V_T tokens where V must agree."""
    context = replace(make_context(0, same=same), **changes)
    context = replace(context, head=DoubleHead(context.head))
    objective = to_double(build_objective([config], context))
    student, batch = make_batch(objective, 0, samples=5, same=same)
    return losses_of(objective)[0], student, batch, context.head


def wider(student: StudentStates) -> Any:
    g = torch.Generator().manual_seed(5)
    logits = 2 * torch.randn(*whole_logits(student).shape[:2], V_T, generator=g, dtype=torch.float64)
    return with_answers(student, {StudentLogits(): logits.requires_grad_()})


def centred(z: Any) -> Any:
    return z - z.mean(-1, keepdim=True)


def hinton(teacher: Tensor, student: Any) -> Any:
    """tau^2 KL of every row."""
    return (centred(teacher) - centred(student)).square().sum(-1) / (2 * teacher.shape[-1])


def assert_tends_to(found: Tensor, limit: Any, *leaves: Tensor) -> None:
    """Both are scalars, with a gradient to the leaves."""
    close(found.detach(), limit.detach(), TOLERANCE)
    gradients = (torch.autograd.grad(total, leaves, retain_graph=True) for total in (found, limit))
    for gradient, wanted in zip(*gradients, strict=True):
        assert wanted.abs().max() > 1e-3
        close(gradient, wanted, TOLERANCE)


def paired(batch: Batch) -> Any:
    """The pairs (b, s), (b, t) of a shared tokenizer, as two indices."""
    sample, place = batch.shared_predictions().nonzero(as_tuple=True)
    return (sample, place), (sample, batch[SameTokenPositions()][sample, place])


# The second derivative of each divergence at p = q, relative to KL's; m = share p + (1 - share) q lies between.
CURVATURE = {"forward_kl": 1, "reverse_kl": 1, "adaptive_kl": 1, "js": 0.3 * 0.7}
CURVATURE |= dict.fromkeys(("skew_forward_kl", "skew_reverse_kl"), (1 - 0.2) ** 2)


@pytest.mark.parametrize("name", CURVATURE)
def test_kd_is_a_squared_distance_of_logits(name: str) -> None:
    loss, student, batch, head = world(KDConfig(divergence=name, temperature=TAU, **DIVERGENCES[name]), same=True)
    of_student, of_teacher = paired(batch)
    (term,) = loss(student, batch).values()
    teacher = head(by_layer(batch, TeacherHidden)[L_T][of_teacher])[:, :V_S]
    assert_tends_to(
        term.total,
        CURVATURE[name] * hinton(teacher, whole_logits(student)[of_student]).sum(),
        whole_logits(student),
    )


def test_total_variation_is_a_distance_of_logits_and_grows_with_tau() -> None:
    loss, student, batch, head = world(KDConfig(divergence="total_variation", temperature=TAU), same=True)
    of_student, of_teacher = paired(batch)
    (term,) = loss(student, batch).values()
    teacher = head(by_layer(batch, TeacherHidden)[L_T][of_teacher])[:, :V_S]
    gap = centred(teacher) - centred(whole_logits(student)[of_student])
    assert_tends_to(term.total / TAU, gap.abs().sum() / (2 * V_S), whole_logits(student))


@pytest.mark.parametrize("name", CURVATURE)
def test_top_k_is_a_squared_distance_of_the_means_of_events(name: str) -> None:
    """An event of n tokens has probability n / V (1 + mean of u / tau)."""
    record = {"sparse": {"top_k": SparseRecord(temperature=TAU, entries=K)}}
    manifest = make_context(0, same=True).manifest.model_copy(update=record)
    config = KDConfig(divergence=name, logits="top_k", temperature=TAU, **DIVERGENCES[name])
    loss, student, batch, _ = world(config, same=True, manifest=manifest)
    student = wider(student)
    z = torch.randn(*batch.teacher_tokens_BT.shape, V_T, dtype=torch.float64)
    values, ids = with_tail((z / TAU).softmax(-1), K)
    batch = with_answers(batch, {SparseTeacher("top_k"): SparseLogits(ids, values)})
    (term,) = loss(student, batch).values()
    of_student, of_teacher = paired(batch)
    limit = 0.0
    for u, v, named in zip(
        centred(z[of_teacher]), centred(whole_logits(student)[of_student]), ids[of_teacher].tolist(), strict=True
    ):
        for event in [[token] for token in named] + [[token for token in range(V_T) if token not in named]]:
            limit = limit + len(event) / (2 * V_T) * (u[event].mean() - v[event].mean()).square()
    assert_tends_to(term.total, CURVATURE[name] * limit, whole_logits(student))


def test_span_kd_is_a_squared_distance_of_shared_logits() -> None:
    loss, student, batch, head = world(SRAConfig(cos=0, geo=0, temperature=TAU))
    loss.head = DoubleHead(loss.head)
    vocabulary, limit = make_context(0).vocabulary, 0.0
    for b in range(len(batch.sample_ids)):
        for own, theirs in naive.spans_of(batch[loss.spans], b):
            z_student = naive.centre(whole_logits(student)[b], by_layer(student, StudentMass)[L_S][b], own)
            z_teacher = head(
                naive.centre(by_layer(batch, TeacherHidden)[L_T][b], by_layer(batch, TeacherMass)[L_T][b], theirs)
            )
            limit = limit + hinton(z_teacher[vocabulary.teacher_ids], z_student[vocabulary.student_ids])
    assert_tends_to(TAU**2 * loss(student, batch)["span_kd"].total, limit, whole_logits(student))


def test_dskd_is_a_squared_distance_in_either_space() -> None:
    loss, student, batch, head = world(DSKDConfig(temperature=TAU), same=True)
    unembedding = nn.Linear(D_S, V_S, dtype=torch.float64)
    student = with_answers(student, {StudentUnembedding(): unembedding})
    of_student, of_teacher = paired(batch)
    teacher, own = by_layer(batch, TeacherHidden)[L_T][of_teacher], by_layer(student, StudentHidden)[L_S]
    terms = loss(student, batch)
    said = unembedding(loss.t2s(teacher)).detach()
    limit = hinton(said, whole_logits(student)[of_student]).sum()
    assert_tends_to(TAU**2 * terms["t2s_kd"].total, limit, whole_logits(student))
    limit = hinton(head(teacher), head(loss.s2t(own[of_student]))).sum()
    assert_tends_to(TAU**2 * terms["s2t_kd"].total, limit, own, *loss.s2t.parameters())


def read_alike(objective: Objective, token_of: Any) -> Any:
    """A batch whose sides have as many tokens, `token_of[w]` the student's for the teacher's w, all to be predicted."""
    student, batch = make_batch(objective, 0, samples=5, same=True)
    width = batch.tokens_BS.shape[1]
    batch.teacher_tokens_BT[:, :width] = torch.tensor(list(token_of))[batch.tokens_BS % len(token_of)]
    tokens = batch.teacher_tokens_BT[:, :width].clone().apply_(token_of.get)
    return student, replace(batch, tokens_BS=tokens, target_BS=batch.teacher_target_BT[:, :width])


@pytest.mark.parametrize("merge", ["max", "sum"])
def test_mined_is_what_the_map_leaves_of_the_uniform_distribution(merge: str) -> None:
    """The nearest of the student's tokens: b of a, b, g and h; c of ` c`; `\\nd` of `\\td`; e and f of themselves."""
    context = replace(make_context(0), tokenizers=(STUDENT, TEACHER), vocabulary=share_vocabulary(STUDENT, TEACHER))
    objective = build_objective([MinEDConfig(temperature=TAU, top_k=None, merge=merge)], context)
    student, batch = read_alike(objective, {1: 2, 4: 5, 5: 6})
    batch.tokens_BS[:, 2] = STUDENT.get_vocab()["c"]  # no nearest token of what the teacher reads there
    terms = losses_of(objective)[0](student, batch)
    total, aligned = batch.count("token"), int(terms["aligned"].total)
    assert total / 2 < aligned < total
    mapped = torch.zeros(V_S, dtype=torch.float64)
    for piece in ("b", "c", "\nd", "e", "f"):
        mapped[STUDENT.get_vocab()[piece]] = 4 if piece == "b" and merge == "sum" else 1
    mapped /= mapped.sum()
    divergence = sum(p * math.log(p * V_S) for p in mapped.tolist() if p)
    close(terms["kl"].total.detach(), torch.tensor(aligned * divergence), TOLERANCE)
    close(terms["nll"].total.detach(), torch.tensor((total - aligned) * math.log(V_S)), TOLERANCE)
    (gradient,) = torch.autograd.grad(terms["kl"].total, whole_logits(student))
    rows = gradient[gradient.abs().sum(-1) > 0]
    assert len(rows) == aligned
    close(TAU * rows, (1 / V_S - mapped).expand(aligned, V_S), TOLERANCE)


def test_mined_of_one_tokenizer_is_a_squared_distance_of_logits() -> None:
    context = replace(make_context(0, same=True), tokenizers=(TEACHER, TEACHER))
    head = DoubleHead(context.head)
    objective = build_objective([MinEDConfig(temperature=TAU, top_k=None)], replace(context, head=head))
    student, batch = read_alike(objective, {token: token for token in range(V_T)})
    student, where = wider(student), batch.target_BS.roll(-1, dims=1)
    terms = losses_of(objective)[0](student, batch)
    assert terms["aligned"].total == batch.count("token")
    teacher = head(by_layer(batch, TeacherHidden)[L_T])[:, : where.shape[1]]
    assert_tends_to(
        TAU**2 * terms["kl"].total, hinton(teacher, whole_logits(student))[where].sum(), whole_logits(student)
    )


def test_uld_is_a_distance_of_sorted_logits() -> None:
    loss, student, batch, head = world(ULDConfig(temperature=TAU))
    student = wider(student)
    limit = 0.0
    for own, theirs in predictions(student, batch, head):
        for v, u in zip(own, theirs, strict=False):
            limit = limit + (v.sort().values - u.sort().values).abs().sum() / V_T
    assert_tends_to(TAU * loss(student, batch)["distance"].total, limit, whole_logits(student))


def predictions(student: StudentStates, batch: Batch, head: Any) -> Any:
    """The centred logits of either side that predict the response, sample by sample."""
    for b in range(len(batch.sample_ids)):
        own, theirs = student_positions(batch, b), teacher_positions(batch, b)
        if own and theirs:
            yield (
                centred(whole_logits(student)[b, own]),
                centred(head(by_layer(batch, TeacherHidden)[L_T][b, theirs])),
            )


def test_multilevel_ot_is_a_distance_of_logits_in_the_order_of_their_sums() -> None:
    """With equal vocabularies; the plan spreads every column evenly, for all costs vanish alike."""
    config = MultiLevelOTConfig(temperature=TAU, sinkhorn_temperature=TAU, top_k=K)
    loss, student, batch, head = world(config)
    student = wider(student)
    absolute, sinkhorn, logarithmic = 0.0, 0.0, 0.0
    for own, theirs in predictions(student, batch, head):
        own, theirs = (side[:, side.sum(0).argsort(descending=True)[:K]] / V_T for side in (own, theirs))
        absolute = absolute + sum((v - u).abs().sum() for v, u in zip(own, theirs, strict=False))
        sinkhorn = sinkhorn + sum((v - u).abs().sum() for v in own for u in theirs) / len(theirs)
        logarithmic += min(len(own), len(theirs)) * K * math.log(V_T) / V_T
    terms = loss(student, batch)
    assert_tends_to(TAU * terms["absolute"].total, absolute, whole_logits(student))
    assert_tends_to(TAU * terms["sinkhorn"].total, sinkhorn, whole_logits(student))
    close(terms["logarithmic"].total.detach(), torch.tensor(logarithmic), TOLERANCE)

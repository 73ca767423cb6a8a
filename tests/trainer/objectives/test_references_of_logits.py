"""Losses over logits against numbers of the authors' code; test_differs_* says where we do not follow it."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from schemas.cache.teacher import HeadRecord
from schemas.configs.losses.dskd import Projectors
from schemas.configs.losses.kd import KDConfig
from schemas.models.teacher_head import TeacherHead
from tests.trainer.objectives.references import Golden, different, golden, same
from trainer.alignment.vocabulary_map import NOWHERE
from trainer.objectives.alm import binarised_divergence
from trainer.objectives.dskd import head_cross_entropy, head_forward_kl
from trainer.objectives.kernels import divergences
from trainer.objectives.kernels.divergences import choose_divergence
from trainer.objectives.kernels.forward_kl import forward_kl
from trainer.objectives.kernels.leading_tokens import leading_tokens
from trainer.objectives.kernels.pooled_rows import Columns, Rows
from trainer.objectives.kernels.row_losses import row_losses
from trainer.objectives.kernels.teacher_rows import exact_rows
from trainer.objectives.mined import kl_to, mapped
from trainer.objectives.multilevel_ot import Predictions, absolute_difference
from trainer.objectives.parts.cross_attention import CrossModelAttention, attend, following, over_deviation
from trainer.objectives.parts.sinkhorn import sinkhorn_distance, sinkhorn_plan
from trainer.objectives.parts.time_warping import only_partners, warp
from trainer.objectives.uld import sorted_distance

# DistiLLM: jongwooko/distillm @ d47e77f; DistiLLM-2: jongwooko/distillm-2 @ fe4cf9b; AKL


def log_of(p: Tensor, chunk: slice) -> Tensor:
    return p[chunk].log()


def each_row(logits: Any, position_P: Tensor, row_loss: Any) -> Tensor:
    """The losses one by one, [P], which the kernel sums."""
    of_one = torch.eye(len(position_P), dtype=logits.dtype)
    return torch.stack([row_losses(logits, position_P, logits.shape[-1], row_loss, one) for one in of_one])


def rows_of(logits: Any, teacher: Tensor, where: Tensor, divergence: Any, temperature: float = 1.0) -> Any:
    """The divergence at the positions of `where`, [P], with a gradient to `logits`."""
    teacher_P = teacher[where]
    position_P = where.flatten().nonzero().squeeze(1)
    row_loss = exact_rows(lambda chunk: teacher_P[chunk], logits.shape[-1], temperature, divergence)
    return each_row(logits, position_P, row_loss)


DISTILLM = {
    "forward_kl": divergences.forward_kl,
    "reverse_kl": divergences.reverse_kl,
    "js_distance": lambda p, q: divergences.jensen_shannon(p, q, 0.1),
    "tv_distance": divergences.total_variation,
    "skewed_forward_kl": lambda p, q: divergences.skew_forward_kl(p, q, 0.1),
    "skewed_reverse_kl": lambda p, q: divergences.skew_reverse_kl(p, q, 0.1),
}


@pytest.mark.parametrize("name", DISTILLM)
def test_distillm(name: str) -> None:
    """Values and gradients; theirs of the two forward divergences lack the teacher's entropy."""
    g = golden("distillm")
    logits, where = g.logits.clone().requires_grad_(), g.label != -100
    value = rows_of(logits, g.teacher_logits, where, DISTILLM[name]).mean()
    log_p = g.teacher_logits.log_softmax(-1)
    entropy = -(log_p.exp() * log_p).sum(-1)[where].mean() if "forward" in name else 0.0
    same(value + entropy, g[name])
    same(torch.autograd.grad(value, logits)[0], g[f"grad_{name}"])


def per_response(g: Golden, divergence: Any) -> Any:
    """Means over each response, [B]: theirs. Ours is one mean over all tokens of a step."""
    logits = g.logits.clone().requires_grad_()
    where = F.pad(g.labels[:, 1:] != -100, (0, 1))
    value_P = rows_of(logits, g.teacher_logits, where, divergence)
    sample_P, count_B = where.nonzero()[:, 0], where.sum(1)
    return logits, torch.zeros(len(where), dtype=value_P.dtype).index_add(0, sample_P, value_P) / count_B


def test_distillm2_forward() -> None:
    g = golden("distillm2")
    logits, value_B = per_response(g, DISTILLM["skewed_forward_kl"])
    same(value_B, g.skew_forward)
    same(torch.autograd.grad(value_B.sum(), logits)[0], g.grad_skew_forward)


def test_a_detached_mixture() -> None:
    """`kd.mixture`: trained is the papers', detached DistiLLM-2's code."""
    g = golden("distillm2")
    for mixture, compare in (("detached", same), ("trained", different)):
        divergence = choose_divergence(KDConfig(divergence="skew_reverse_kl", mixture=mixture))
        logits, value_B = per_response(g, divergence)
        same(value_B, g.skew_reverse)
        compare(torch.autograd.grad(value_B.sum(), logits)[0], g.grad_skew_reverse)


def test_adaptive_kl_as_dskd_has_it() -> None:
    """songmzhang/DSKD @ 077337a, at temperature 2; theirs is not multiplied by tau^2."""
    g = golden("akl")
    logits, where = g.logits.clone().requires_grad_(), torch.ones(1, 8, dtype=torch.bool)
    value_P = rows_of(logits, g.teacher_logits, where, lambda p, q: divergences.adaptive_kl(p, q, 0.5), 2.0)
    same(value_P, 4 * g.akl_dskd[0])
    same(torch.autograd.grad(value_P.sum(), logits)[0], 4 * g.grad_akl_dskd)


def test_differs_adaptive_kl_of_its_authors() -> None:
    """wutaiqiang/LLM_KD_AKL @ ff278be leaves the token that crosses mu out of the head, unless it is the first."""
    g = golden("akl")
    where = torch.ones(1, 8, dtype=torch.bool)
    logits = g.logits.clone().requires_grad_()
    ours_P = rows_of(logits, g.teacher_logits, where, lambda p, q: divergences.adaptive_kl(p, q, 0.5))
    (of_ours,) = torch.autograd.grad(ours_P.sum(), logits)
    same(ours_P[:4], g.akl_authors[:4])  # one token alone holds half
    same(of_ours[:, :4], g.grad_akl_authors[:, :4])
    different(ours_P[4:], g.akl_authors[4:])
    p, q = g.teacher_logits[0].softmax(-1), g.logits[0].softmax(-1)
    order = p.sort(-1, descending=True).indices
    gap = (p - q).abs().gather(-1, order)
    tail = p.gather(-1, order).cumsum(-1) > 0.5
    tail[:, 0] = False
    same((gap * ~tail).sum(-1) / gap.sum(-1), g.head_ratio_authors[0])


# DSKD: songmzhang/DSKD @ 077337a


def linear(weight: torch.Tensor, bias: torch.Tensor) -> nn.Linear:
    module = nn.Linear(weight.shape[1], weight.shape[0])
    module.weight.data, module.bias.data = weight.clone(), bias.clone()
    return module


def t2s_kd(logits_BSV: Tensor, where: Tensor, kept_P: Tensor, said_Pd: Tensor, head: Any) -> Any:
    position_P = where.flatten().nonzero().squeeze(1)[kept_P]
    one_P, row_P = torch.ones(len(position_P)), torch.arange(len(position_P))
    rows, said_Pd = Rows(position_P, row_P, one_P, len(position_P)), said_Pd.detach()[kept_P]
    columns = Columns(logits_BSV.shape[-1])
    return forward_kl(logits_BSV.flatten(0, 1), rows, columns, lambda chunk: head(said_Pd[chunk]) / 2.0, one_P, 2.0)


def test_dskd_with_cross_model_attention() -> None:
    """Where no padding and no prompt is there to spread, their std is ours."""
    g = golden("dskd_cma")
    hidden, logits = g.student_hidden.clone().requires_grad_(), g.student_logits.clone().requires_grad_()
    student_text, teacher_text = g.student_text[None], g.teacher_text[None]
    where_S = torch.arange(student_text.shape[1])[None] < student_text.shape[1] - 1
    where_T = torch.arange(teacher_text.shape[1])[None] < teacher_text.shape[1] - 1
    attention = CrossModelAttention(4, 5, Projectors())
    attention.query = linear(g.query_weight, g.query_bias)
    embedded_S, embedded_T = g.student_embedding[student_text], g.teacher_embedding[teacher_text]
    score = attention(embedded_S, embedded_T, where_T)

    def longer(x: Tensor) -> Any:
        return F.pad(x, (0, 0, 0, 1))  # the last token predicts nothing

    said = over_deviation(longer(g.teacher_hidden), where_T) + over_deviation(following(embedded_T), where_T)
    t2s = (attend(score, where_T) @ linear(g.t2s_weight, g.t2s_bias)(said))[where_S]
    s2t = (attend(score.mT, where_S) @ linear(g.s2t_weight, g.s2t_bias)(longer(hidden)))[where_T]
    head = lambda h: h @ g.student_head.T  # noqa: E731
    nll, right_P = head_cross_entropy(t2s, g.student_text[1:], head, len(g.student_head))
    kd = t2s_kd(torch.cat([logits, logits.detach()[:, :1]], 1), where_S, right_P, t2s, head)
    teacher_head = TeacherHead(g.teacher_head, None, HeadRecord(dtype="float32", bias=False))
    back = head_forward_kl(s2t, g.teacher_hidden[0], teacher_head, len(g.teacher_head), 2.0)
    same(nll, g.t2s_ce)
    same(right_P.sum(), g.t2s_acc)
    same(kd, g.t2s_kd)
    same(back, g.s2t_kd)
    of_hidden, of_logits = torch.autograd.grad(nll + kd + back, [hidden, logits])
    same(of_hidden, g.grad_student_hidden)
    same(of_logits, g.grad_student_logits)


def test_dskd_with_one_tokenizer() -> None:
    """Tokens that the projected teacher gets wrong count as well (mask_wrong: auto)."""
    g = golden("dskd_one")
    hidden, logits = g.student_hidden.clone().requires_grad_(), g.student_logits.clone().requires_grad_()
    where = g.label != -100
    t2s = linear(g.t2s_weight, g.t2s_bias)(g.teacher_hidden[where])
    s2t = linear(g.s2t_weight, g.s2t_bias)(hidden[where])
    head = lambda h: h @ g.student_head.T  # noqa: E731
    nll, right_P = head_cross_entropy(t2s, g.label[where], head, len(g.student_head))
    kd = t2s_kd(logits, where, torch.ones_like(right_P), t2s, head)
    teacher_head = TeacherHead(g.teacher_head, None, HeadRecord(dtype="float32", bias=False))
    back = head_forward_kl(s2t, g.teacher_hidden[where], teacher_head, len(g.teacher_head), 2.0)
    for ours, theirs in ((nll, g.t2s_ce), (kd, g.t2s_kd), (back, g.s2t_kd)):
        same(ours, theirs)
    of_hidden, of_logits = torch.autograd.grad(nll + kd + back, [hidden, logits])
    same(of_hidden, g.grad_student_hidden)
    same(of_logits, g.grad_student_logits)


# ULD: Nicolas-BZRD/llm-recipes @ ab6e798; songmzhang/DSKD @ 077337a


def uld_distances(g: Golden, shifted: bool) -> list[torch.Tensor]:
    """Distances of the k-th predictions, sample by sample. `shifted`: a label is at the state that predicts it."""
    found = []
    for zs, zt, ls, lt in zip(g.student_logits, g.teacher_logits, g.student_label, g.teacher_label, strict=True):
        at_S, at_T = ((x != -100).nonzero().squeeze(1) - (0 if shifted else 1) for x in (ls, lt))
        n = min(len(at_S), len(at_T))
        found.append(sorted_distance(zs[at_S[:n]], zt[at_T[:n]], 1.0)[0])
    return found


def test_uld_sum_over_tokens_as_dskd_has_it() -> None:
    g = golden("uld")
    same(torch.cat(uld_distances(g, shifted=True)).sum(), g.sum_dskd)


def test_uld_mean_of_sample_means_as_its_authors_have_it() -> None:
    """`uld.normalise: sample`. Theirs starts at the last -100 before the answer, the state that predicts its first
    token, as ours."""
    g = golden("uld")
    same(torch.stack([distance.mean() for distance in uld_distances(g, shifted=False)]).mean(), g.mean_authors)


# MinED: FuseLLM (18907305772/FuseLLM @ 562c7b0), songmzhang/DSKD @ 077337a


@pytest.mark.parametrize("case", range(4))
def test_mined_warping(case: int) -> None:
    g = golden("mined")
    cost = g[f"cost{case}"].numpy()
    path = warp(cost)
    assert sum(cost[step] for step in path) == g[f"total{case}"]
    np.testing.assert_array_equal(only_partners(path, cost.shape[1]), g[f"partner{case}"].numpy())


def mined_kl(g: Golden, teacher_to_student: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The KL of each prediction, and the logits: top_k null, merge max, unaligned one_hot."""
    logits = g.student_logits.clone().requires_grad_()
    partner = torch.from_numpy(only_partners(warp(g.cost.numpy()), len(g.student_ids)))
    aligned = (partner >= 0) & (g.teacher_to_student[g.teacher_ids[partner]] == g.student_ids)
    assert 0 < aligned.sum() < len(aligned)

    def row_loss(rows: Tensor, chunk: slice) -> Any:
        p = F.one_hot(g.targets[chunk], rows.shape[1]).to(rows.dtype)
        teacher = g.teacher_logits[partner[chunk]].softmax(-1)
        moved = mapped(teacher, teacher_to_student.expand_as(teacher), rows.shape[1], "max")
        return kl_to(torch.where(aligned[chunk, None], moved, p), rows, 1.0)

    return each_row(logits, torch.arange(len(logits)), row_loss), logits


def test_mined_of_the_whole_vocabulary() -> None:
    """Every teacher token is mapped, and of those that meet the likeliest counts."""
    g = golden("mined")
    kl, logits = mined_kl(g, g.teacher_to_student)
    same(kl, g.kl)
    same(torch.autograd.grad(kl.sum(), logits)[0], g.grad_kl)


def test_differs_mined_as_dskd_runs_it() -> None:
    """There only the first teacher token of each student token is in the map (distiller.py:52), the likelier or not."""
    g = golden("mined")
    to_student = g.teacher_to_student.tolist()
    first = [s if to_student.index(s) == t else NOWHERE for t, s in enumerate(to_student)]
    same(mined_kl(g, torch.tensor(first))[0], g.kl_first)
    different(g.kl, g.kl_first)


# MultiLevelOT: 2018cx/Multi-Level-OT @ 712cfb4


def test_multilevel_ot_sinkhorn() -> None:
    """Sequences of one length; their 10 iterations and no factor 0.001."""
    g = golden("multilevel_ot")
    x, y, mask = g.x[None], g.y[None], torch.ones(1, len(g.x), dtype=torch.bool)
    same(sinkhorn_plan(torch.cdist(x, y, p=1.0), mask, mask, 0.1, 10)[0], g.plan)
    same(sinkhorn_distance(x, y, mask, mask, 0.1, 10)[0], g.sinkhorn)


def test_multilevel_ot_order() -> None:
    """Tokens by their probability in sum over the response, in a batch of one."""
    g = golden("multilevel_ot")
    for side in ("teacher", "student"):
        p = g[f"{side}_p"][0]
        leading = leading_tokens(partial(log_of, p), [len(p)], p.shape[1], p.shape[1], [1.0], p)
        same(p.gather(1, leading.ids_Rk), g[f"sorted_{side}"][0])


def test_differs_multilevel_ot_of_its_authors() -> None:
    """Theirs in whole, from our parts: z / (std(z) + 1e-4) first; L_HAD a mean over tokens; L_SL with teacher and
    student exchanged, -sum softmax(s) log softmax(t), another softmax on the probabilities, a mean; the Sinkhorn
    distance of softmax(. / 2) of the probabilities, 10 iterations, times 0.001. Predictions are those of the response's
    tokens, as ours."""
    g = golden("multilevel_ot")
    at = (g.label[0] != -100).nonzero().squeeze(1) - 1
    found = []
    for z in (g.student_logits[0, at], g.teacher_logits[0, at]):
        p = (z / (z.std(-1, keepdim=True) + 1e-4)).softmax(-1)
        leading = leading_tokens(partial(log_of, p), [len(p)], p.shape[1], 50, [1.0], p)
        found.append(p.gather(1, leading.ids_Rk))
    student, teacher = found
    mask = torch.ones(1, len(at), dtype=torch.bool)
    sides = [Predictions(p[None].log(), p[None], mask) for p in (student, teacher)]
    had = absolute_difference(*sides) / len(at)
    sl = -(student.softmax(-1) * teacher.log_softmax(-1)).sum(-1).mean()
    smooth = [(p / 2).softmax(-1)[None] for p in (teacher, student)]
    sd = 0.001 * sinkhorn_distance(smooth[0], smooth[1], mask, mask, 0.1, 10)[0]
    same(had + 0.1 * sl + 0.1 * sd, g.whole)
    t, s = g.teacher_p[0], g.student_p[0]
    same(-(s.softmax(-1) * t.log_softmax(-1)).sum(-1).mean(), g.kl_wo)


# ALM: bminixhofer/tokenkit @ bcacdef


@pytest.mark.parametrize(
    ("theirs", "divergence"), [("binary_ce", "kl"), ("reverse_binary_kl", "reverse_kl"), ("abs_exp", "tvd")]
)
def test_alm(theirs: str, divergence: Any) -> None:
    """Ours is multiplied by tau; binary_ce is the KL and the teacher's entropy. Theirs is float32."""
    g = golden("alm")
    ours = binarised_divergence(g.log_teacher, g.log_student, divergence, 100.0) / 100
    same(ours + (g.binary_entropy if theirs == "binary_ce" else 0), g[theirs])

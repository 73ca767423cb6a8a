"""Representation losses and their optimiser against numbers of the authors' code; test_differs_* says where we do not
follow it."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from schemas.cache.targets import response_targets
from schemas.cache.teacher import HeadRecord
from schemas.configs.losses.base import Projection
from schemas.configs.training import OptimizerConfig, SharpnessConfig
from schemas.models.teacher_head import TeacherHead
from tests.trainer.objectives.references import Golden, different, golden, same
from trainer.alignment.spans import aligned_spans
from trainer.numerics.span_pooling import centres_of_mass, membership, span_mass, within_span
from trainer.objectives.fdd import dynamics
from trainer.objectives.kernels.pooled_rows import Columns
from trainer.objectives.mta import hidden_loss, structure_loss, token_weights
from trainer.objectives.parts.projection import projection_biases, projection_groups, projection_matrix
from trainer.objectives.sra import relative_mass, span_cosine_loss, span_geometry_loss, span_kd_loss
from trainer.objectives.talas import anchor_loss, contrastive_loss, layer_change_loss
from trainer.optimisation.optimizer import make_optimizer
from trainer.optimisation.sharpness import Sharpness

# SRA: sonho4ng/SRAv4 @ d74a664


def sra_terms(g: Golden, floor: float = 0.0) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
    """cos, geo and kd as means over the batch, and the two leaves."""
    hidden, projection = g.student_hidden.clone().requires_grad_(), g.projection.clone().requires_grad_()
    mask_BK = torch.stack([(g.label_teacher == k).any(1) for k in range(int(g.label_teacher.max()) + 1)], 1)
    of_student, of_teacher = membership(g.label_student, mask_BK), membership(g.label_teacher, mask_BK)
    share_S, share_T = within_span(of_student, g.mass_student, floor), within_span(of_teacher, g.mass_teacher, floor)
    centre_S = centres_of_mass(of_student, share_S, hidden)
    centre_T = centres_of_mass(of_teacher, share_T, g.teacher_hidden)
    weight_BK = relative_mass(span_mass(of_teacher, g.mass_teacher), mask_BK, 1.0)
    record = HeadRecord(dtype="float32", bias=True)
    head = TeacherHead(g.teacher_head[g.teacher_ids], g.teacher_bias[g.teacher_ids], record)
    columns = Columns(len(g.student_ids), g.student_ids)
    kd = span_kd_loss(
        hidden @ g.student_head.T,
        g.label_student,
        share_S,
        centre_T,
        mask_BK,
        head,
        columns,
        float(g.temperature),
        whole=floor == 0,
    )
    terms = {
        "centre_student": centre_S,
        "centre_teacher": centre_T,
        "span_mass_teacher": span_mass(of_teacher, g.mass_teacher),
        "span_mass_student": span_mass(of_student, g.mass_student),
        "cos": span_cosine_loss(centre_S, centre_T, weight_BK, projection) / len(hidden),
        "geo": span_geometry_loss(centre_S, centre_T, weight_BK) / len(hidden),
        "kd": kd / len(hidden),
    }
    return terms, hidden, projection


def assert_sra(g: Golden, floor: float) -> None:
    terms, hidden, projection = sra_terms(g, floor)
    for name, value in terms.items():
        same(value, g[name])
    total = 2 * terms["cos"] + 10 * terms["geo"] + terms["kd"]
    same(total, g.total10)
    of_hidden, of_projection = torch.autograd.grad(total, [hidden, projection])
    same(of_hidden, g.grad_student_hidden)
    same(of_projection, g.grad_projection)


def test_sra() -> None:
    g = golden("sra")
    masses = torch.cat([g.span_mass_teacher.flatten(), g.span_mass_student.flatten()])
    assert masses[masses > 0].min() > 1e-5
    assert_sra(g, 0.0)
    assert_sra(g, 1e-5)  # the floor changes nothing where no mass is below it


def test_sra_mass_floor() -> None:
    """`sra.mass_floor`: 0 is the paper, 1e-5 theirs."""
    g = golden("sra_floor")
    assert_sra(g, 1e-5)
    terms, _, _ = sra_terms(g)
    different(terms["centre_student"], g.centre_student)
    different(terms["kd"], g.kd)
    same(terms["cos"], g.cos)  # directions do not change
    same(terms["geo"], g.geo)


def test_sra_cos_layers() -> None:
    """`sra.cos_layers`: theirs is a mean over pairs of layers, each pooled and weighted by its own layer's masses. That
    the loss takes them so, test_sra.py says."""
    g = golden("sra_layers")
    mask_BK = torch.ones(2, 3, dtype=torch.bool)
    of_student, of_teacher = membership(g.label_student, mask_BK), membership(g.label_teacher, mask_BK)
    found = []
    for layer in range(2):
        centre_S = centres_of_mass(of_student, within_span(of_student, g.mass_student[layer]), g.student_hidden[layer])
        centre_T = centres_of_mass(of_teacher, within_span(of_teacher, g.mass_teacher[layer]), g.teacher_hidden[layer])
        weight_BK = relative_mass(span_mass(of_teacher, g.mass_teacher[layer]), mask_BK, 1.0)
        found.append(span_cosine_loss(centre_S, centre_T, weight_BK, g.projections[layer]) / 2)
    same(torch.stack(found).mean(), g.cos)
    different(found[-1], g.cos)


@pytest.mark.parametrize("pair", ["qwen2_gpt2", "gpt2_qwen2", "qwen2_opt"])
@pytest.mark.parametrize("text", [0, 1])
def test_sra_alignment(pair: str, text: int) -> None:
    """Where the prompt ends on a token of either side, the two walks make the same spans."""
    g, key = golden("sra_alignment"), f"{pair}_{text}"
    teacher, student = (g[f"{key}_{side}_offsets"].numpy() for side in ("teacher", "student"))
    learnt = response_targets(int(g[f"{key}_start"]), int(teacher.max()))
    of_teacher, of_student, _ = aligned_spans(teacher, student, learnt, max_spans=1024)
    np.testing.assert_array_equal(of_teacher, g[f"{key}_teacher_labels"].numpy())
    np.testing.assert_array_equal(of_student, g[f"{key}_student_labels"].numpy())


# MTA: wind123mountain/MTA @ 37298fc


def mta_spans(g: Golden, hidden: torch.Tensor) -> Any:
    B, L = g.labels.shape
    mask_BL = torch.ones(B, L, dtype=torch.bool)
    mask_BK = torch.stack([(g.labels == k).any(1) for k in range(int(g.labels.max()) + 1)], 1)
    members = membership(g.labels, mask_BK)
    of_student, of_teacher = token_weights(hidden, mask_BL), token_weights(g.teacher_hidden, mask_BL)
    same(of_student, g.weights_student)
    same(of_teacher, g.weights_teacher)
    centre_S = centres_of_mass(members, within_span(members, of_student), hidden)
    centre_T = centres_of_mass(members, within_span(members, of_teacher), g.teacher_hidden)
    return members, of_teacher, centre_S, centre_T, span_mass(members, of_teacher)


def test_mta_structure_over_the_batch() -> None:
    """`mta.normalise: batch` is theirs for L_DSA."""
    g = golden("mta")
    hidden = g.student_hidden.clone().requires_grad_()
    _, _, centre_S, centre_T, mass_BK = mta_spans(g, hidden)
    dsa = structure_loss(centre_S, centre_T, mass_BK, over_batch=True) / len(hidden)
    same(dsa, g.dsa)
    same(torch.autograd.grad(dsa, hidden)[0], g.grad_dsa)
    different(structure_loss(centre_S, centre_T, mass_BK) / len(hidden), g.dsa)


def test_mta_hidden_within_a_sample() -> None:
    """... and for L_Hid theirs is `sample`: token weights are brought to a sum of 1 in each sample first."""
    g = golden("mta")
    hidden = g.student_hidden.clone().requires_grad_()
    members, of_teacher, _, _, _ = mta_spans(g, hidden)
    weight, projection = of_teacher * members.inside_BX, g.projector_weight.T
    hid = hidden_loss(hidden, g.teacher_hidden, weight, projection) / len(hidden)
    same(hid, g.hid_no_bias)
    same(torch.autograd.grad(hid, hidden)[0], 10 * (g.grad_both - g.grad_dsa), 1e-4)


def test_mta_over_key_layers() -> None:
    """hid_reduction: mean; dsa 1 and hid 0.1, which --w-span-loss multiplies (2: dsa 2, hid 0.2)."""
    g = golden("mta")
    found = []
    for more in ("", "_2"):
        one = Golden(labels=g.labels, teacher_hidden=g[f"teacher_hidden{more}"])
        hidden, mask_BL = g[f"student_hidden{more}"], torch.ones(g.labels.shape, dtype=torch.bool)
        one["weights_student"], one["weights_teacher"] = (
            token_weights(x, mask_BL) for x in (hidden, one.teacher_hidden)
        )
        members, of_teacher, centre_S, centre_T, mass_BK = mta_spans(one, hidden)
        weight, projection = of_teacher * members.inside_BX, g[f"projector_weight{more}"].T
        dsa = structure_loss(centre_S, centre_T, mass_BK, over_batch=True)
        found.append((dsa + 0.1 * hidden_loss(hidden, one.teacher_hidden, weight, projection)) / len(hidden))
    same(torch.stack(found).mean(), g.overall)


def test_mta_projection_bias() -> None:
    """`mta.projection.bias`: false is the paper; theirs is an nn.Linear."""
    g = golden("mta")
    hidden = g.student_hidden
    members, of_teacher, _, _, _ = mta_spans(g, hidden)
    weight = of_teacher * members.inside_BX
    hid = hidden_loss(hidden, g.teacher_hidden, weight, g.projector_weight.T, g.projector_bias)
    same(hid / len(hidden), g.hid_bias)


def test_a_projection_may_start_and_decay_as_theirs() -> None:
    torch.manual_seed(0)
    config = Projection(init="linear", bias=True, weight_decay=0.01)
    matrix = projection_matrix(400, 300, config)
    (bias,) = projection_biases(["4"], 400, 300, config).values()
    for parameter in (matrix, bias):  # uniform in +-1 / sqrt(400)
        assert parameter.abs().max() <= 0.05 and parameter.std().item() == pytest.approx(0.05 / 3**0.5, rel=0.1)
    (group,) = projection_groups([matrix, bias], config)
    assert group["weight_decay"] == 0.01 and group["params"] == [matrix, bias]
    assert not list(projection_biases(["4"], 400, 300, Projection()))


def test_differs_mta_padding_attends() -> None:
    """Theirs averages over padding too, as tokens that attend: a sample's weights depend on its neighbours' lengths."""
    g = golden("mta")
    ours = token_weights(g.padded_hidden, g.padded_mask.bool())
    L = g.teacher_hidden.shape[1]
    same(ours[:1, :L], g.weights_alone)
    theirs = g.weights_padded / g.weights_padded.sum(1, keepdim=True)
    different(ours, theirs)


# FDD: wind123mountain/MTA @ 37298fc, span_fdd_finetune.py


def fdd(g: Golden, where: torch.Tensor) -> Any:
    hidden = g.student_hidden.clone().requires_grad_()
    student, teacher = hidden @ g.student_head.T, g.teacher_hidden @ g.teacher_head.T
    trajectory, derivative = dynamics(student[:, where.bool()], teacher[:, where.bool()], 2.0)
    return hidden, trajectory / where.sum(), derivative / where.sum()


def test_fdd_of_given_positions() -> None:
    g = golden("fdd")
    _, trajectory, derivative = fdd(g, g.response)
    same(trajectory, g.response_trajectory)
    same(trajectory + derivative, g.response_total)


def test_fdd_of_the_whole_text() -> None:
    """`fdd.positions: text` is theirs: every token that is not padding, the last one too."""
    g = golden("fdd")
    hidden, trajectory, derivative = fdd(g, g.attention)
    same(trajectory, g.attention_trajectory)
    same(trajectory + derivative, g.attention_total)
    same(torch.autograd.grad(trajectory + derivative, hidden)[0], g.grad_attention_total)
    different(sum(fdd(g, g.response)[1:]).detach(), g.attention_total)


# TALAS: sonho4ng/Teacher-Anchor-KD @ 1cd570f; its ASAM: pytorch_optimizer 4.1.0


def test_talas() -> None:
    """lasd_reduction: mean, lasd_guide: trained, [CLS] pooled."""
    g = golden("talas")
    pooled = g.pooled.clone().requires_grad_()
    B = pooled.shape[1]
    tamd = anchor_loss([pooled[layer - 2] @ g.projections[layer] for layer in range(2)], g.teacher) / B
    lasd = layer_change_loss(pooled, "mean", "trained")
    contrastive = contrastive_loss(pooled[-1], g.second_view, 0.1) / B
    same(tamd, g.tamd)
    same(lasd, g.lasd)
    same(contrastive, g.contrastive)
    total = 0.001 * contrastive + 0.75 * tamd + 1.0 * lasd
    same(total, g.total)
    same(torch.autograd.grad(total, pooled)[0], g.grad_pooled)
    different(layer_change_loss(g.pooled, "sum", "trained"), g.lasd)


def perturbed(g: Golden, scale_biases: bool) -> dict[str, torch.Tensor]:
    """The weights at the second pass, with eta 0."""
    weights = {name: nn.Parameter(g[name].clone()) for name in ("weight", "bias", "projection")}
    names = {"weight": "layer.weight", "bias": "layer.bias", "projection": "projections.1"}
    config = SharpnessConfig(rho=0.05, eta=0.0, scale_biases=scale_biases)
    sharpness = Sharpness(config, [(names[key], weights[key]) for key in weights])
    seen: list[dict[str, torch.Tensor]] = []

    def accumulate() -> Any:
        seen.append({name: weight.detach().clone() for name, weight in weights.items()})
        for name, weight in weights.items():
            weight.grad = g[f"grad_{name}"].clone()
        return 0.0, {}

    sharpness.gradient(accumulate)
    return seen[1]


def test_sharpness_scales_biases() -> None:
    """`optimizer.sharpness`: eta 0 and scale_biases are theirs; ASAM's authors leave biases as they are."""
    g = golden("talas_sam")
    moved = perturbed(g, scale_biases=True)
    for name in ("weight", "bias", "projection"):
        same(moved[name], g[f"moved_{name}"])
    assert moved["projection"][0, 0] == 0  # a weight at 0 stays there
    different(perturbed(g, scale_biases=False)["bias"], g.moved_bias)


def test_everything_decays() -> None:
    """`optimizer.decay: all` and `talas.projection.weight_decay`: both of their groups decay, and betas are torch's."""
    g = golden("talas_sam")
    config = OptimizerConfig(betas=(0.9, 0.999), weight_decay=0.01, decay="all")
    projection = Projection(weight_decay=0.01)
    extra = projection_groups([nn.Parameter(g.projection.clone())], projection)
    optimizer = make_optimizer(nn.Linear(3, 2), extra, config)
    assert (
        {group["weight_decay"] for group in optimizer.param_groups} == {0.01} == {*map(float, g.weight_decay.tolist())}
    )
    assert list(optimizer.defaults["betas"]) == g.betas.tolist()
    kept = make_optimizer(nn.Linear(3, 2), [], OptimizerConfig())
    assert [group["weight_decay"] for group in kept.param_groups] == [0.1, 0.0]


def test_a_projection_may_start_small() -> None:
    torch.manual_seed(0)
    ours = projection_matrix(100, 100, Projection(init="small")).std().item()
    assert ours == pytest.approx(1e-3, rel=0.05)
    assert golden("talas").init_std == pytest.approx(1e-3, rel=0.15)

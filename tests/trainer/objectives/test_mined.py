"""MinED against loops over letters, pairs of tokens and vocabularies; what it must not see, and its memory."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from schemas.cache.reader import Cache
from schemas.configs.losses.mined import MinEDConfig
from tests.trainer.objectives.answers import by_layer, whole_logits
from tests.trainer.objectives.naive_mined import Truth
from tests.trainer.objectives.precision import assert_as_precise, close, gradient_of, in_double
from tests.trainer.objectives.two_texts import (
    LAST,
    counts_of,
    head_logits,
    make_cache,
    make_context,
    make_setting,
    renumbered,
)
from tests.trainer.objectives.world import losses_of
from trainer.data.batch import Batch
from trainer.data.teacher_states import TeacherHidden
from trainer.objectives.kernels.chunks import ON_CPU
from trainer.objectives.mined import kl_to
from trainer.objectives.objective import build_objective
from trainer.student.states import StudentLogits, StudentStates


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return make_cache(tmp_path_factory.mktemp("mined"))


SWITCHES = {
    "default": {},
    "one token": {"top_k": 1, "weight": 0.5},
    "added up": {"merge": "sum", "top_k": 30},
    "temperature": {"temperature": 2.0},
    "skip": {"unaligned": "skip"},
    "whole vocabulary": {"top_k": None},
    "whole vocabulary, added up": {"top_k": None, "merge": "sum", "temperature": 0.8},
}


@pytest.mark.parametrize("kind", ["bytelevel", "unigram", "teacher"])
@pytest.mark.parametrize("switches", SWITCHES.values(), ids=SWITCHES)
def test_value_and_gradient(cache: Cache, switches: dict[str, Any], kind: Any) -> None:
    config, context = MinEDConfig(**switches), make_context(cache, kind)
    truth = Truth(context, config)
    terms = ("kl", "nll") if config.unaligned == "one_hot" else ("kl",)

    def naively(student: StudentStates, batch: Batch) -> Any:
        totals = truth(student, batch, head_logits(context, batch))
        assert 0.1 * batch.count("token") < totals["aligned"]
        means = {name: torch.as_tensor(totals[name]) / batch.count("token") for name in (*terms, "aligned")}
        value: Any = config.weight * sum(means[name] for name in terms)
        (gradient,) = torch.autograd.grad(value, whole_logits(student))
        assert gradient.abs().max() > 1e-4
        return {f"mined/{name}": mean.detach() for name, mean in means.items()} | {"gradient": gradient}

    for dtype in (torch.float64, torch.float32):
        objective, student, batch = make_setting(cache, context, config, dtype=dtype)
        scalar, found = objective(student, batch, counts_of(batch))
        (gradient,) = torch.autograd.grad(scalar, whole_logits(student))
        right = naively(*in_double(student, batch))
        plain = right if dtype == torch.float64 else naively(student, batch)
        assert_as_precise(found | {"gradient": gradient}, right, plain)


@pytest.mark.parametrize("kind", ["bytelevel", "unigram"])
@pytest.mark.parametrize("top_k", [10, None])
def test_numbering_both_vocabularies_differently_changes_nothing(cache: Cache, kind: Any, top_k: int | None) -> None:
    config, context = MinEDConfig(top_k=top_k), make_context(cache, kind)
    objective, student, batch = make_setting(cache, context, config)
    before, parts = objective(student, batch, counts_of(batch))
    (gradient,) = torch.autograd.grad(before, whole_logits(student))
    context, turned, turned_batch, own = renumbered(context, student, batch)
    after, turned_parts = build_objective([config], context)(turned, turned_batch, counts_of(batch))
    (turned_gradient,) = torch.autograd.grad(after, whole_logits(turned))
    assert not torch.equal(batch.tokens_BS, turned_batch.tokens_BS)
    for name in parts:
        torch.testing.assert_close(turned_parts[name], parts[name], rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(turned_gradient[:, :, own], gradient, rtol=1e-5, atol=1e-8)


def test_a_student_that_is_its_teacher_has_nothing_to_learn(cache: Cache) -> None:
    context = make_context(cache, "teacher")
    objective, _, batch = make_setting(cache, context, MinEDConfig(top_k=None), dtype=torch.float32)
    logits = context.head(by_layer(batch, TeacherHidden)[LAST])
    logits = torch.nn.functional.pad(logits, (0, 0, 0, batch.tokens_BS.shape[1] - logits.shape[1])).requires_grad_()
    scalar, parts = objective(StudentStates({StudentLogits(): logits}), batch, counts_of(batch))
    scalar.backward()
    assert parts["mined/aligned"] == 1
    assert parts["mined/nll"] == 0
    assert abs(parts["mined/kl"].item()) < 1e-6
    assert gradient_of(logits).abs().max() < 1e-6


def test_samples_without_predictions_on_one_side(cache: Cache) -> None:
    """No teacher: everything learns the text. No student: nothing is added."""
    context = make_context(cache)
    objective, student, batch = make_setting(cache, context, MinEDConfig(), positions=[0, 5, 30])
    batch.target_BS[1] = False
    alone = replace(batch, teacher_target_BT=torch.zeros_like(batch.teacher_target_BT), mask_BS=batch.target_BS)
    _, parts = objective(student, alone, counts_of(batch))
    expected = Truth(context, MinEDConfig())(student, alone, head_logits(context, batch))
    assert parts["mined/aligned"] == expected["aligned"] == 0
    assert parts["mined/kl"] == 0
    close(parts["mined/nll"], expected["nll"].detach() / batch.count("token"), 1e-9)


def test_the_fast_path_errs_no_more_than_plain_float32() -> None:
    """Over a vocabulary of 50,000, against float64: the value and the gradient."""
    g = torch.Generator().manual_seed(0)
    z, p = 4 * torch.randn(6, 50_000, generator=g), (4 * torch.randn(6, 50_000, generator=g)).softmax(-1)
    p[:, 20_000:] = 0
    p = p / p.sum(-1, keepdim=True)

    def plain(z: Tensor, p: Tensor) -> Any:
        return torch.nn.functional.kl_div((z / 2).log_softmax(-1), p, reduction="none").sum(-1)

    leaf, exact = z.clone().requires_grad_(), z.double().requires_grad_()
    truth = plain(exact, p.double())
    truth.sum().backward()
    theirs = plain(leaf, p)
    theirs.sum().backward()
    value, gradient = kl_to(p, z.clone(), 2.0)
    errors = [float((x.double() - truth).detach().abs().max()) for x in (value, theirs)]
    assert errors[0] <= 1.2 * errors[1] + 1e-6
    errors = [float((x.double() - gradient_of(exact)).norm()) for x in (gradient, gradient_of(leaf))]
    assert errors[0] <= 1.2 * errors[1] + 1e-7


def test_logits_of_the_teacher_stay_within_the_budget(cache: Cache) -> None:
    context = make_context(cache)
    objective, student, batch = make_setting(cache, context, MinEDConfig())
    whole, _ = objective(student, batch, counts_of(batch))
    (right,) = torch.autograd.grad(whole, whole_logits(student))
    budget = 3 * len(context.head.weight_Vd)
    losses_of(objective)[0].chunks = replace(ON_CPU, rows=budget)
    asked = []
    context.head.register_forward_hook(lambda module, args, logits: asked.append(logits.numel()))
    chunked, _ = objective(student, batch, counts_of(batch))
    (gradient,) = torch.autograd.grad(chunked, whole_logits(student))
    assert max(asked) <= budget
    assert sum(asked) > 5 * budget
    assert chunked.item() == pytest.approx(whole.item(), rel=1e-6)
    torch.testing.assert_close(gradient, right, rtol=1e-5, atol=1e-8)

"""What ULD, MultiLevelOT and MinED have in common: their invariances, their refusals, and a teacher that runs live."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import pad

from schemas.cache.reader import Cache
from schemas.configs.losses.ce import CrossEntropyConfig
from schemas.configs.losses.mined import MinEDConfig
from schemas.configs.losses.multilevel_ot import MultiLevelOTConfig
from schemas.configs.losses.uld import ULDConfig
from schemas.errors import RunError
from tests.trainer.objectives.answers import by_layer, in_dtype, moved, whole_logits, with_answers
from tests.trainer.objectives.given import GivenContext
from tests.trainer.objectives.naive_mined import Truth
from tests.trainer.objectives.naive_multilevel_ot import multilevel_ot
from tests.trainer.objectives.naive_uld import uld
from tests.trainer.objectives.precision import gradient_of
from tests.trainer.objectives.two_texts import counts_of, live_logits, make_cache, make_context, make_setting
from tests.trainer.objectives.world import make_context as make_world
from tests.trainer.objectives.world import pick
from trainer.data.batch import Batch
from trainer.data.target_ranges import RangeLabels, TargetRanges
from trainer.data.teacher_states import TeacherHidden
from trainer.data.tied_tokens import Spans, SpanSet
from trainer.objectives.objective import build_objective
from trainer.student.states import StudentLogits, StudentStates

CONFIGS = {
    "uld": ULDConfig(temperature=1.5),
    "uld, spans": ULDConfig(pairs="span"),
    "uld, mean of samples": ULDConfig(normalise="sample"),
    "multilevel_ot": MultiLevelOTConfig(top_k=5),
    "mined": MinEDConfig(),
    "mined, skip": MinEDConfig(unaligned="skip", top_k=3, merge="sum"),
}
each = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return make_cache(tmp_path_factory.mktemp("cross"))


@pytest.fixture(scope="module")
def context(cache: Cache) -> Any:
    return make_context(cache)


def padded(student: StudentStates, batch: Batch, more: int) -> Any:
    """The same samples with `more` columns of padding and spans, filled with what must not matter."""
    tokens = lambda x, value: pad(x, (0, more), value=value)  # noqa: E731
    wide = replace(
        batch,
        tokens_BS=tokens(batch.tokens_BS, 3),
        mask_BS=tokens(batch.mask_BS, False),
        target_BS=tokens(batch.target_BS, False),
        teacher_tokens_BT=tokens(batch.teacher_tokens_BT, 5),
        teacher_mask_BT=tokens(batch.teacher_mask_BT, False),
        teacher_target_BT=tokens(batch.teacher_target_BT, False),
    )
    wide = moved(wide, TeacherHidden, lambda state: pad(state, (0, 0, 0, more), value=7.0))
    wide = moved(
        wide,
        Spans,
        lambda s: SpanSet(tokens(s.student_BS, -1), tokens(s.teacher_BT, -1), tokens(s.mask_BK, False)),
    )
    wide = moved(wide, TargetRanges, lambda r: RangeLabels(tokens(r.student_BS, -1), tokens(r.teacher_BT, -1)))
    return moved(student, StudentLogits, lambda logits: pad(logits, (0, 0, 0, more), value=-5.0)), wide


def assert_same(found: Any, wanted: Any, leaf: Tensor) -> None:
    """Scalars, parts and gradients."""
    (scalar, parts), (right, right_parts) = found, wanted
    assert parts.keys() == right_parts.keys()
    for name in parts:
        torch.testing.assert_close(parts[name], right_parts[name], rtol=1e-6, atol=1e-7)
    gradients = [torch.autograd.grad(x, leaf, retain_graph=True)[0] for x in (scalar, right)]
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-7)
    assert gradients[0].abs().max() > 1e-4


@each
def test_padding_changes_nothing_and_gets_no_gradient(cache: Cache, context: GivenContext, config: Any) -> None:
    objective, student, batch = make_setting(cache, context, config)
    counts = counts_of(batch)
    wide_student, wide = padded(student, batch, 5)
    whole_logits(wide_student).retain_grad()
    again = objective(wide_student, wide, counts)
    again[0].backward(inputs=[whole_logits(wide_student)])
    assert torch.count_nonzero(gradient_of(whole_logits(wide_student))[~wide.mask_BS]) == 0
    assert_same(objective(*padded(student, batch, 5), counts), objective(student, batch, counts), whole_logits(student))


@each
def test_the_order_of_samples_changes_nothing(cache: Cache, context: GivenContext, config: Any) -> None:
    objective, student, batch = make_setting(cache, context, config)
    counts = counts_of(batch)
    turned = objective(*pick(student, batch, [4, 0, 6, 1, 5, 3, 2]), counts)
    assert_same(turned, objective(student, batch, counts), whole_logits(student))


@each
def test_accumulated_batches_weigh_as_one_large_batch(cache: Cache, context: GivenContext, config: Any) -> None:
    objective, student, batch = make_setting(cache, context, config)
    counts = counts_of(batch)
    pieces = [pick(student, batch, samples) for samples in ([0], [1, 2, 3], [4, 5, 6])]
    results = [objective(*piece, counts) for piece in pieces]
    summed = {name: sum(parts[name] for _, parts in results) for name in results[0][1]}
    whole = objective(student, batch, counts)
    assert_same((sum(scalar for scalar, _ in results), summed), whole, whole_logits(student))


@each
def test_a_step_of_nothing_is_zero_and_finite(cache: Cache, context: GivenContext, config: Any) -> None:
    objective, student, batch = make_setting(cache, context, config)
    empty = replace(batch, target_BS=torch.zeros_like(batch.target_BS))
    scalar, parts = objective(student, empty, counts_of(empty))
    (gradient,) = torch.autograd.grad(scalar, whole_logits(student))
    assert scalar.item() == 0
    assert all(part.item() == 0 for part in parts.values())
    assert torch.count_nonzero(gradient) == 0


@each
def test_a_teacher_without_predictions_stays_finite(cache: Cache, context: GivenContext, config: Any) -> None:
    objective, student, batch = make_setting(cache, context, config)
    silent = replace(batch, teacher_target_BT=torch.zeros_like(batch.teacher_target_BT), mask_BS=batch.target_BS)
    scalar, _ = objective(student, silent, counts_of(batch))
    (gradient,) = torch.autograd.grad(scalar, whole_logits(student))
    assert torch.isfinite(scalar)
    assert torch.isfinite(gradient).all()


@each
def test_half_precision_logits_are_computed_in_float32(cache: Cache, context: GivenContext, config: Any) -> None:
    objective, student, batch = make_setting(cache, context, config, dtype=torch.bfloat16)
    full = in_dtype(student, torch.float32)
    counts = counts_of(batch)
    with torch.autocast("cpu", torch.bfloat16):
        scalar, parts = objective(student, batch, counts)
    wanted, wanted_parts = objective(full, batch, counts)
    assert scalar.dtype == torch.float32
    assert {n: p.item() for n, p in parts.items()} == {n: p.item() for n, p in wanted_parts.items()}
    (found,) = torch.autograd.grad(scalar, whole_logits(student))
    (right,) = torch.autograd.grad(wanted, whole_logits(full))
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), right, rtol=2e-2, atol=2e-2 * float(right.abs().max()))


@each
def test_the_teacher_never_gets_a_gradient(cache: Cache, context: GivenContext, config: Any) -> None:
    objective, student, batch = make_setting(cache, context, config)
    for hidden in by_layer(batch, TeacherHidden).values():
        hidden.requires_grad_()
    objective(student, batch, counts_of(batch))[0].backward()
    assert all(hidden.grad is None for hidden in by_layer(batch, TeacherHidden).values())


def test_all_of_them_beside_cross_entropy(cache: Cache, context: GivenContext) -> None:
    """The sum of what each gives alone: none disturbs another's logits."""
    configs = [CrossEntropyConfig(), *CONFIGS.values()]
    _, student, by_span = make_setting(cache, context, CONFIGS["uld, spans"])
    batch = with_answers(by_span, make_setting(cache, context, CONFIGS["uld"])[2].answers)
    counts = counts_of(batch)
    together, _ = build_objective(configs, context)(student, batch, counts)
    alone = [build_objective([config], context)(student, batch, counts)[0] for config in configs]
    torch.testing.assert_close(together, sum(alone), rtol=1e-9, atol=0)


@each
def test_cached_states_give_the_loss_of_the_live_teacher(cache: Cache, context: GivenContext, config: Any) -> None:
    """Against the teacher's own logits, run now by transformers and never touched by our unembedding."""
    positions = [5, 53]
    objective, student, batch = make_setting(cache, context, config, seed=1, positions=positions)
    assert (batch.target_BS & ~batch.mask_BS).any()  # ends of sequence that the teacher was not fed
    counts = counts_of(batch)
    scalar, _ = objective(student, batch, counts)
    logits = live_logits(cache, positions)
    if isinstance(config, ULDConfig):
        wanted = uld(student, batch, logits, config) / counts[config.normalise]
    elif isinstance(config, MultiLevelOTConfig):
        totals = multilevel_ot(student, batch, logits, config)
        wanted = sum(getattr(config, name) * total for name, total in totals.items()) / counts["token"]
    else:
        totals = Truth(context, config)(student, batch, logits)
        skipped = config.unaligned == "skip"
        wanted = (totals["kl"] + (0 if skipped else totals["nll"])) / counts["token"]
    assert scalar.item() == pytest.approx(config.weight * wanted.item(), rel=1e-5)
    (found,) = torch.autograd.grad(scalar, whole_logits(student))
    (right,) = torch.autograd.grad(config.weight * wanted, whole_logits(student))
    assert (found - right).norm() <= 1e-5 * right.norm()
    assert right.norm() > 1e-4


@each
def test_an_encoder_teacher_is_refused(config: Any) -> None:
    world = make_world(kind="encoder")
    with pytest.raises(RunError, match=rf"{config.loss} needs the teacher's logits, and tiny is an encoder\. Use sra"):
        build_objective([config], world)


@each
def test_a_cache_without_the_final_layer_is_refused(cache: Cache, context: GivenContext, config: Any) -> None:
    kept = [array for array in cache.manifest.arrays if (array.kind, array.layer) != ("hidden", 3)]
    poorer = replace(context, manifest=cache.manifest.model_copy(update={"arrays": kept}))
    with pytest.raises(
        RunError, match=rf"{config.loss} needs the teacher's hidden layers 3; .* Run `stillroom extend` with"
    ):
        build_objective([config], poorer)

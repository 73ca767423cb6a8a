"""Texts with several targets: every loss against float64 loops over real tokens, value and gradient; and a text's
ranges in either tokenizer against plain loops."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoTokenizer

from schemas.cache.reader import Cache
from schemas.configs.losses.alm import ALMConfig
from schemas.configs.losses.base import WeightedLoss
from schemas.configs.losses.ce import CrossEntropyConfig
from schemas.configs.losses.kd import KDConfig
from schemas.configs.losses.mined import MinEDConfig
from schemas.configs.losses.mta import MTAConfig
from schemas.configs.losses.multilevel_ot import MultiLevelOTConfig
from schemas.configs.losses.sra import SRAConfig
from schemas.configs.losses.uld import ULDConfig
from tests.caches import build_cache, extraction, write_corpus
from tests.several_targets import annotate
from tests.tiny import tiny_llama, tiny_tokenizer
from tests.trainer.objectives import naive_several
from tests.trainer.objectives.answers import whole_logits
from tests.trainer.objectives.given import GivenContext
from tests.trainer.objectives.naive_mined import Truth
from tests.trainer.objectives.naive_several import Given, Models
from tests.trainer.objectives.precision import in_double
from tests.trainer.objectives.two_sides import Side, aligned, marked, read_side
from tests.trainer.objectives.two_texts import make_context
from tests.trainer.objectives.world import asked, counts_of, gradients, losses_of, to_double
from trainer.alignment.quality import measure_alignment
from trainer.alignment.student_text import StudentTokenizer
from trainer.data.batch import Batch
from trainer.data.loader import BatchBuilder
from trainer.data.target_ranges import TargetRanges
from trainer.data.teacher_states import TeacherHidden, TeacherMass
from trainer.data.tied_tokens import Spans
from trainer.objectives.alm import boundary_tokens
from trainer.objectives.objective import Objective, build_objective
from trainer.student.states import StudentHidden, StudentLogits, StudentMass, StudentStates

POSITIONS = [0, 1, 2, 3, 6, 51, 52]  # one to three ranges, in sentences, emoji, ideographs
KINDS = pytest.mark.parametrize("kind", ["teacher", "bytelevel"])


class DoubleHead(nn.Module):
    """The teacher's head in float64, where float32 would decide how near two numbers come."""

    def __init__(self, weight_Vd: Tensor, transform: Any) -> None:
        super().__init__()
        self.weight_Vd, self.bias_V, self.transform = weight_Vd.double(), None, transform

    def forward(self, hidden: Tensor, ids: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        logits = hidden @ self.weight_Vd.T
        return (logits if ids is None else logits[..., ids]) / temperature

    def restricted(self, ids: Tensor) -> "DoubleHead":
        return DoubleHead(self.weight_Vd[ids], self.transform)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    folder = tmp_path_factory.mktemp("several")
    tiny_llama(folder / "teacher", tiny_tokenizer(folder / "teacher", "bpe"))
    tiny_tokenizer(folder / "bytelevel", "bytelevel", vocab=320)
    corpus = write_corpus(folder / "corpus.jsonl")
    return Cache(build_cache(extraction(folder / "cache", folder / "teacher", corpus), annotate))


def context_of(cache: Cache, kind: str) -> GivenContext:
    context = make_context(cache, kind)
    return replace(context, head=DoubleHead(context.head.weight_Vd, context.head.transform))


def sides(cache: Cache, kind: str, position: int, limit: int = 128) -> tuple[Side, Side, list[tuple[int, int]]]:
    """The student's tokens, at most `limit`, the teacher's, and the targets."""
    sample = cache.sample(position)
    targets = [(start, end) for start, end in sample.targets.tolist()]
    own = AutoTokenizer.from_pretrained(cache.path.parent / kind)
    theirs = AutoTokenizer.from_pretrained(cache.path / "teacher")
    return read_side(own, sample.text, targets, True, limit), read_side(theirs, sample.text, targets, False), targets


def setting(cache: Cache, context: GivenContext, config: WeightedLoss) -> tuple[Objective, StudentStates, Batch]:
    """An objective in float64, a student of random numbers, and the cached batch."""
    torch.manual_seed(3)
    objective = to_double(build_objective([config], context))
    tokenizer = context.tokenizers[0]
    batch = BatchBuilder(cache, StudentTokenizer(tokenizer, 128, append_eos=True), objective.of_batch)[POSITIONS]
    B, S = batch.tokens_BS.shape
    width = len(tokenizer) + 3 * (not context.same_tokenizer)  # a student whose head is padded
    states: dict[Any, Any] = {StudentLogits(): 2 * torch.randn(B, S, width)}
    for request in sorted(objective.of_student, key=repr):
        if isinstance(request, StudentHidden):
            states[request] = torch.randn(B, S, 16)
        elif isinstance(request, StudentMass):
            mass = torch.rand(B, S).double() ** 3 * batch.mask_BS
            states[request] = mass / mass.sum(1, keepdim=True)
    student, batch = in_double(StudentStates(states), batch)
    return objective, student, batch


def given(cache: Cache, kind: str, student: StudentStates, batch: Batch, head: DoubleHead) -> list[Given]:
    """What the loops are given: tokens as the tokenizers cut the text now, states as the loss reads them."""
    found = []
    for row, position in enumerate(POSITIONS):
        own, theirs, targets = sides(cache, kind, position)
        sample, S, T = cache.sample(position), len(own.ids), len(theirs.ids)
        hidden = {r.layer: x[row, :S] for r, x in student.answers.items() if isinstance(r, StudentHidden)}
        mass = {r.layer: x[row, :S] for r, x in student.answers.items() if isinstance(r, StudentMass)}
        teacher_hidden = {r.layer: x[row, :T] for r, x in batch.answers.items() if isinstance(r, TeacherHidden)}
        teacher_mass = {r.layer: x[row, :T] for r, x in batch.answers.items() if isinstance(r, TeacherMass)}
        words = [(a, b) for a, b in sample.words.tolist()]
        phrases = [(a, b) for a, b in [*sample.noun_phrases.tolist(), *sample.verb_phrases.tolist()]]
        logits_TW = teacher_hidden.get(3, torch.zeros(T, 32).double()) @ head.weight_Vd.T
        tokens = own, theirs, targets, words, phrases
        found.append(
            Given(*tokens, whole_logits(student)[row, :S], hidden, mass, logits_TW, teacher_hidden, teacher_mass)
        )
    return found


def models_of(context: GivenContext, objective: Objective) -> Models:
    (loss,) = losses_of(objective)
    shared = zip(context.vocabulary.student_ids.tolist(), context.vocabulary.teacher_ids.tolist(), strict=True)
    boundaries = (boundary_tokens(tokenizer).tolist() for tokenizer in context.tokenizers)

    def projection(layer: int) -> Tensor:
        matrix: Tensor = loss.projections[str(layer)] if hasattr(loss, "projections") else loss.projection
        return matrix

    return Models((3, 3), context.head.weight_Vd, list(shared), (*boundaries,), projection)  # type: ignore[arg-type]


LEVELS = [(1, 1, "word"), (2, 2, "phrase"), (3, 3, "phrase")]
CONFIGS: dict[str, WeightedLoss] = {
    "ce": CrossEntropyConfig(),
    "kd": KDConfig(temperature=2.0),
    "sra": SRAConfig(),
    "sra, few spans": SRAConfig(max_spans=4, cos=2, geo=10),
    "mta": MTAConfig(),
    "mta, targets": MTAConfig(scope="response"),
    "mta, by word": MTAConfig(scope="response", hid_pairs="word"),
    "alm": ALMConfig(),
    "alm, much merged": ALMConfig(debias_threshold=0.6),
    "alm, plain chunks": ALMConfig(debias_threshold=None, temperature=2.0),
    "uld": ULDConfig(temperature=1.5),
    "multilevel_ot": MultiLevelOTConfig(top_k=7),
    "mined": MinEDConfig(),
}


def truth(config: WeightedLoss, context: GivenContext, models: Models, texts: Sequence[Given]) -> Tensor:
    match config:
        case KDConfig():
            return naive_several.kd(texts, config)
        case SRAConfig():
            return naive_several.sra(texts, config, models)
        case MTAConfig():
            by_token = context.same_tokenizer and config.hid_pairs == "auto"
            return naive_several.mta(texts, config, models, LEVELS, by_token)
        case ALMConfig():
            return naive_several.alm(texts, config, models)
        case ULDConfig():
            return naive_several.uld(texts, config)
        case MultiLevelOTConfig():
            return naive_several.multilevel_ot(texts, config)
        case MinEDConfig():
            by_spelling = Truth(context, config)
            return naive_several.mined(texts, by_spelling.partner, by_spelling.mapped, config.temperature)
    return naive_several.ce(texts)


@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, kind) for name in CONFIGS for kind in ("teacher", "bytelevel")[: 1 if name == "kd" else 2]],
)
def test_value_and_gradient(cache: Cache, name: str, kind: str) -> None:
    config = CONFIGS[name]
    context = context_of(cache, kind)
    objective, student, batch = setting(cache, context, config)
    scalar, _ = objective(student, batch, counts_of(batch))
    models = models_of(context, objective)
    wanted = config.weight * truth(config, context, models, given(cache, kind, student, batch, context.head))
    assert abs(scalar.item() - wanted.item()) <= 1e-6 * abs(wanted.item())
    found, right = (gradients(value, student, objective) for value in (scalar, wanted))
    assert any(gradient.norm() > 1e-4 for gradient in right)
    for mine, theirs in zip(found, right, strict=True):
        assert (mine - theirs).norm() <= 1e-6 * theirs.norm()


@KINDS
@pytest.mark.parametrize("limit", [128, 16])
def test_tokens_of_the_batch_are_those_that_loops_find(cache: Cache, kind: str, limit: int) -> None:
    """Also of a student that sees no more than the first targets."""
    context = context_of(cache, kind)
    configs: list[WeightedLoss] = [SRAConfig(max_spans=4), ALMConfig(), MTAConfig(scope="response")]
    objective = build_objective(configs, context)
    batch = BatchBuilder(
        cache, StudentTokenizer(context.tokenizers[0], limit, append_eos=True), {*objective.of_batch, TargetRanges()}
    )[POSITIONS]
    assert {len(cache.sample(position).targets) for position in POSITIONS} == {1, 2, 3}
    for row, position in enumerate(POSITIONS):
        own, theirs, targets = sides(cache, kind, position, limit)
        labels = batch[TargetRanges()]
        for mine, targeted, side in (
            (labels.student_BS[row], batch.target_BS[row], own),
            (labels.teacher_BT[row], batch.teacher_target_BT[row], theirs),
        ):
            assert mine[: len(side.ids)].tolist() == side.target and (mine[len(side.ids) :] == -1).all()
            assert torch.equal(targeted, mine >= 0)
        sample = cache.sample(position)
        for request in asked(objective, Spans):
            if request.level == "aligned":
                tied = aligned(own, theirs, targets, request.max_spans)
            else:
                phrases = [*sample.noun_phrases.tolist(), *sample.verb_phrases.tolist()]
                spans = sample.words.tolist() if request.level == "word" else phrases
                tied = marked(own, theirs, [(a, b) for a, b in spans], targets)
            found = batch[request]
            assert int(found.mask_BK[row].sum()) == len(tied)
            for k, piece in enumerate(tied):
                assert (found.student_BS[row] == k).nonzero().flatten().tolist() == piece.student
                assert (found.teacher_BT[row] == k).nonzero().flatten().tolist() == piece.teacher


def test_pairs_by_order_stay_within_a_range(cache: Cache) -> None:
    """Otherwise nothing above would tell one rule from the other: the sides' counts differ in the first ranges."""
    apart = 0
    for position in POSITIONS:
        own, theirs, _ = sides(cache, "bytelevel", position)
        for number in range(max(own.target)):
            apart += own.target.count(number) != theirs.target.count(number)
    assert apart > 3


@KINDS
def test_agreement_counts_the_coarser_side_of_every_range(cache: Cache, kind: str) -> None:
    agreed, covered, number = [], [], []
    for position in range(len(cache)):
        own, theirs, targets = sides(cache, kind, position)
        tied = aligned(own, theirs, targets)
        number.append(len(tied))
        located = [
            [r for r, (start, stop) in enumerate(targets) for a, b in side.characters if a < b and start < b <= stop]
            for side in (own, theirs)
        ]
        fewer = sum(min(side.count(r) for side in located) for r in range(len(targets)))
        agreed += [len(tied) / fewer] if fewer else []
        reached = [
            max((theirs.characters[t][1] for piece in tied if piece.range == r for t in piece.teacher), default=start)
            for r, (start, _) in enumerate(targets)
        ]
        characters = sum(stop - start for start, stop in targets)
        covered.append(sum(end - start for end, (start, _) in zip(reached, targets, strict=True)) / characters)
    tokenizer = StudentTokenizer(context_of(cache, kind).tokenizers[0], 1024, append_eos=True)
    found = measure_alignment(cache, tokenizer, 10**6, seed=0)
    assert found.agreement == pytest.approx(sum(agreed) / len(agreed), abs=1e-12)
    assert found.coverage_mean == pytest.approx(sum(covered) / len(covered), abs=1e-12)
    assert found.spans_mean == pytest.approx(sum(number) / len(number), abs=1e-12)

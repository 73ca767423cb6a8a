"""What must not change any objective: how tokens are numbered, where padding is, in which order samples come.

Each asks for the same value, the same terms and, moved along, the same gradient to everything that can learn.
"""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from transformers import PreTrainedTokenizerFast

from schemas.configs.losses.registry import LOSSES
from schemas.models.teacher_head import TeacherHead
from tests.trainer.objectives.answers import moved, whole_logits, with_answers
from tests.trainer.objectives.every import EVERY, ONE_TOKENIZER, World, make_world
from tests.trainer.objectives.precision import error
from tests.trainer.objectives.words import word_tokenizer
from tests.trainer.objectives.world import V_S, V_T, pick, to_double
from trainer.alignment.vocabulary import SharedVocabulary
from trainer.data.target_ranges import RangeLabels, TargetRanges
from trainer.data.teacher_states import SparseLogits, SparseTeacher, TeacherHidden, TeacherMass
from trainer.data.tied_tokens import SameTokenPositions, Spans, SpanSet
from trainer.objectives.objective import build_objective
from trainer.student.states import (
    StudentEmbedding,
    StudentHidden,
    StudentLogits,
    StudentMass,
    StudentStates,
    StudentUnembedding,
)

# The teacher's head computes in float32, and products of other shapes may round otherwise.
TOLERANCE = 1e-6
each = pytest.mark.parametrize("name", EVERY)


def assert_same(changed: World, world: World, move: Callable[..., Tensor]) -> None:
    """`move(name, gradient)`: where the gradient of `world` is to be found in `changed`."""
    found, wanted = changed.measure(), world.measure()
    assert found.keys() == wanted.keys()
    for name, right in wanted.items():
        moved = move(name, right)
        assert found[name].shape == moved.shape
        assert error(found[name], moved) <= TOLERANCE, (name, error(found[name], moved))


def is_state(name: str) -> bool:
    return name == "logits" or name.startswith("hidden")


def leaf_states(student: StudentStates, move: Callable[..., Tensor]) -> Any:
    """The student's states moved by `move(state, value that its padding may have)`, leaves again."""
    logits = move(whole_logits(student).detach(), -5.0).requires_grad_()
    student = moved(student, StudentHidden, lambda state: move(state.detach(), 9.0).requires_grad_())
    return with_answers(student, {StudentLogits(): logits})


def test_every_objective_is_here_and_has_something_to_say() -> None:
    of_causal = {name for name, kind in LOSSES.items() if kind.student == "causal"}
    assert {config.name for configs in EVERY.values() for config in configs} == of_causal
    for name, configs in EVERY.items():
        found = make_world(name).measure()
        silent = {part for part, value in found.items() if "/" in part and value == 0}
        assert not silent, (name, silent)
        assert found["logits"].abs().max() > 1e-4 or configs[0].name == "mta"


@each
def test_numbering_tokens_differently_changes_nothing(name: str) -> None:
    """Both vocabularies in an order of their own; jointly, where the tokenizers are one and the numbers are shared."""
    world = make_world(name)
    g = torch.Generator().manual_seed(1)
    own = torch.randperm(V_S, generator=g)
    theirs = torch.cat([own, V_S + torch.tensor([1, 0])]) if name in ONE_TOKENIZER else torch.randperm(V_T, generator=g)

    def move(name: str, gradient: Tensor) -> Tensor:
        if name == "logits":
            return gradient[:, :, own]
        return gradient[own] if name.startswith(("embedding", "unembedding")) else gradient

    assert_same(renumbered(world, name, own, theirs), world, move)


def renumbered(world: World, name: str, own: Tensor, theirs: Tensor) -> Any:
    """The world in which the student's token `own[v]` is called v, and the teacher's `theirs[w]` is called w."""
    context, batch = world.context, world.batch
    of_student, of_teacher = own.argsort(), theirs.argsort()
    shared = torch.stack([of_student[context.vocabulary.student_ids], of_teacher[context.vocabulary.teacher_ids]])
    turned = replace(
        context,
        head=TeacherHead(context.head.weight_Vd[theirs], context.head.bias_V[theirs], context.head.transform),
        vocabulary=SharedVocabulary(*shared[:, shared[0].argsort()]),
        embedding_Vd=context.embedding_Vd[theirs],
        tokenizers=(in_order(context.tokenizers[0], own), in_order(context.tokenizers[1], theirs)),
    )
    objective = to_double(build_objective(EVERY[name], turned))
    objective.load_state_dict(world.objective.state_dict())
    batch = replace(
        batch,
        tokens_BS=of_student[batch.tokens_BS],
        teacher_tokens_BT=of_teacher[batch.teacher_tokens_BT],
    )
    batch = moved(batch, SparseTeacher, lambda stored: SparseLogits(of_teacher[stored.ids_BTn], stored.values_BTn))
    answers = {
        StudentLogits(): whole_logits(world.student).detach()[:, :, own].requires_grad_(),
        StudentEmbedding(): reordered(world.student[StudentEmbedding()], own),
        StudentUnembedding(): reordered(world.student[StudentUnembedding()], own),
    }
    student = with_answers(world.student, answers)
    return World(objective, turned, student, batch)


def in_order(tokenizer: PreTrainedTokenizerFast, order: Tensor) -> Any:
    pieces = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)
    return word_tokenizer([pieces[old] for old in order.tolist() if old < len(pieces)], **tokenizer.special_tokens_map)


def reordered(module: nn.Module, order: Tensor) -> Any:
    module = copy.deepcopy(module)
    for parameter in module.parameters():
        parameter.data = parameter.data[order]
    return module


@each
@pytest.mark.parametrize(("left", "right"), [(0, 2), (2, 0)], ids=["right", "left"])
def test_padding_changes_nothing_and_gets_no_gradient(name: str, left: Any, right: Any) -> None:
    """Two more columns on either side of student and teacher, filled with what must not matter."""
    world = make_world(name)

    def columns(x: Tensor, value: Any) -> Tensor:
        return pad(x, (0, 0) * (x.ndim - 2) + (left, right), value=value)

    def positions(x: Tensor) -> Any:
        return columns(torch.where(x >= 0, x + left, -1), -1)

    batch = world.batch
    wide = replace(
        batch,
        tokens_BS=columns(batch.tokens_BS, 3),
        mask_BS=columns(batch.mask_BS, False),
        target_BS=columns(batch.target_BS, False),
        teacher_tokens_BT=columns(batch.teacher_tokens_BT, 5),
        teacher_mask_BT=columns(batch.teacher_mask_BT, False),
        teacher_target_BT=columns(batch.teacher_target_BT, False),
    )
    moves = {
        TeacherHidden: lambda state: columns(state, 7.0),
        TeacherMass: lambda mass: columns(mass, 0.0),
        Spans: lambda s: SpanSet(columns(s.student_BS, -1), columns(s.teacher_BT, -1), pad(s.mask_BK, (0, 2))),
        TargetRanges: lambda r: RangeLabels(columns(r.student_BS, -1), columns(r.teacher_BT, -1)),
        SameTokenPositions: positions,
        SparseTeacher: lambda s: SparseLogits(columns(s.ids_BTn, 1), columns(s.values_BTn, -0.5)),
    }
    for kind, move in moves.items():
        wide = moved(wide, kind, move)
    student = leaf_states(world.student, columns)
    student = moved(student, StudentMass, lambda mass: columns(mass, 0.0))
    changed = replace(world, student=student, batch=wide)
    assert_same(changed, world, lambda leaf, gradient: columns(gradient, 0.0) if is_state(leaf) else gradient)
    for leaf, gradient in changed.measure().items():
        assert not is_state(leaf) or torch.count_nonzero(gradient[~wide.mask_BS]) == 0


@each
def test_the_order_of_samples_changes_nothing(name: str) -> None:
    world, order = make_world(name), [2, 0, 4, 3, 1]
    student, batch = pick(world.student, world.batch, order)
    changed = replace(world, student=leaf_states(student, lambda state, _: state), batch=batch)
    assert_same(changed, world, lambda leaf, gradient: gradient[order] if is_state(leaf) else gradient)

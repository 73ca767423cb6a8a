"""Which predictions are compared, over two texts counted by hand."""

from dataclasses import replace
from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trainer.data.batch import Batch
from trainer.data.target_ranges import RangeLabels, TargetRanges
from trainer.data.tied_tokens import SpanSet
from trainer.objectives.parts.prediction_pairs import (
    paired_by_order,
    paired_by_span,
    positions,
    predictions,
    predictions_by_range,
)


def bools(*rows: str) -> Any:
    return torch.tensor([[mark == "x" for mark in row] for row in rows])


def batch(target: Any, mask: Any, teacher_target: Any, teacher_mask: Any) -> Batch:
    tokens, teacher_tokens = (
        torch.zeros(target.shape, dtype=torch.long),
        torch.zeros(teacher_mask.shape, dtype=torch.long),
    )
    return Batch(("a", "b"), tokens, mask, target, teacher_tokens, teacher_mask, teacher_target, {})


def test_a_prediction_stands_before_its_target() -> None:
    found = predictions(batch(bools(".xx.", "..x."), bools("xxx.", "xxx."), bools(".x", "xx"), bools("xx", "xx")))
    assert found[0].tolist() == bools("xx..", ".x..").tolist()
    assert found[1].tolist() == bools("x.", "x.").tolist()


def test_an_end_that_the_teacher_was_not_fed_is_predicted_from_its_last_state() -> None:
    """The second text ends with a target that is no text: its teacher's last token stands at 1, before padding."""
    found = predictions(batch(bools(".xx.", ".xx."), bools("xxx.", "xx.."), bools(".xx", ".x."), bools("xxx", "xx.")))
    assert found[0].tolist() == bools("xx..", "xx..").tolist()
    assert found[1].tolist() == bools("xx.", "xx.").tolist()


def labels(*rows: str) -> Tensor:
    """Of digits, and dots for -1."""
    return torch.tensor([[int(mark) if mark.isdigit() else -1 for mark in row] for row in rows])


def test_a_prediction_belongs_to_the_range_of_what_it_predicts() -> None:
    one = batch(bools(".xx.xx", ".x...."), bools("xxxxx.", "xx...."), bools(".x.xx", ".x.x."), bools("xxxxx", "xxxx."))
    ranges = RangeLabels(labels(".00.22", ".0...."), labels(".0.12", ".0.1."))
    student, teacher = predictions_by_range(replace(one, answers={TargetRanges(): ranges}))
    assert student.tolist() == [
        bools("xx....", "......", "...xx.").tolist(),
        bools("x.....", "......", "......").tolist(),
    ]
    # The first text's end of sequence, a target of range 2, is predicted from the teacher's last state, at 4.
    assert teacher.tolist() == [bools("x....", "..x..", "...xx").tolist(), bools("x....", "..x..", ".....").tolist()]


def test_one_range_is_all_predictions() -> None:
    one = batch(bools(".xx.", ".xx."), bools("xxx.", "xx.."), bools(".xx", ".x."), bools("xxx", "xx."))
    one = replace(one, answers={TargetRanges(): RangeLabels(labels(".00.", ".00."), labels(".00", ".0."))})
    for whole, by_range in zip(predictions(one), predictions_by_range(one), strict=True):
        assert torch.equal(whole[:, None], by_range)
    nothing = replace(one, target_BS=bools("....", "...."), teacher_target_BT=bools("...", "..."))
    nothing = replace(nothing, answers={TargetRanges(): RangeLabels(labels("....", "...."), labels("...", "..."))})
    assert [tuple(side.shape) for side in predictions_by_range(nothing)] == [(2, 1, 4), (2, 1, 3)]
    assert not any(side.any() for side in predictions_by_range(nothing))


@st.composite
def two_sides(draw: st.DrawFn, ranges: int) -> tuple[Tensor, Tensor]:
    """Predictions by range, [B, N, S] and [B, N, T]: every position in one range at most."""
    B, S, T = draw(st.integers(1, 3)), draw(st.integers(1, 7)), draw(st.integers(1, 7))
    found = []
    for width in (S, T):
        label = torch.tensor(
            [sorted(draw(st.lists(st.integers(0, ranges), min_size=width, max_size=width))) for _ in range(B)]
        )
        found.append(label[:, None] == torch.arange(ranges)[:, None])
    return found[0], found[1]


@given(two_sides(3))
@settings(deadline=None, max_examples=150)
def test_by_order_within_every_range(sides: tuple[Tensor, Tensor]) -> None:
    wanted = []
    for b in range(len(sides[0])):
        for n in range(3):
            own, theirs = ([b * side.shape[2] + x for x in side[b, n].nonzero().flatten().tolist()] for side in sides)
            wanted += list(zip(own, theirs, strict=False))
    student, teacher = paired_by_order(*sides)
    assert list(zip(student.tolist(), teacher.tolist(), strict=True)) == wanted


@given(two_sides(1))
@settings(deadline=None, max_examples=100)
def test_one_range_is_paired_as_a_response_was(sides: tuple[Tensor, Tensor]) -> None:
    """The code of before there were several targets, over [B, S] and [B, T]."""
    student_BS, teacher_BT = (side[:, 0] for side in sides)
    count_B1 = torch.minimum(student_BS.sum(1, keepdim=True), teacher_BT.sum(1, keepdim=True))
    for found, x_BX in zip(paired_by_order(*sides), (student_BS, teacher_BT), strict=True):
        assert torch.equal(found, (x_BX & (x_BX.cumsum(1) <= count_B1)).flatten().nonzero().squeeze(1))
        assert torch.equal(positions(x_BX[:, None]), x_BX.flatten().nonzero().squeeze(1))


def test_by_order_up_to_the_shorter_side() -> None:
    student, teacher = paired_by_order(bools("x.xx", "...x")[:, None], bools(".x.x.", "xx...")[:, None])
    # The first: 0 and 2 of the student with 1 and 3; the second: its 3 with 0. Flat: 4 and 5 positions in a row.
    assert student.tolist() == [0, 2, 7] and teacher.tolist() == [1, 3, 5]
    assert [len(side) for side in paired_by_order(bools("....")[:, None], bools("xx")[:, None])] == [0, 0]


def test_by_span_at_its_last_token_where_both_predict() -> None:
    student_label = torch.tensor([[0, 0, 1, 2], [-1, 0, 1, -1]])
    teacher_label = torch.tensor([[0, 1, 1, 2, 2], [0, 0, 1, -1, -1]])
    spans = SpanSet(student_label, teacher_label, bools("xxx", "xx."))
    student, teacher = paired_by_span(bools("xxx.", "xxxx"), bools("xxxxx", "x.xxx"), spans)
    # Last tokens: 1 2 3 and 1 2 of the student, 0 2 4 and 1 2 of the teacher. Two of five are no predictions.
    assert student.tolist() == [1, 2, 4 + 2] and teacher.tolist() == [0, 2, 5 + 2]

"""Which predictions are compared, over two texts counted by hand."""

from typing import Any

import torch

from trainer.data.batch import Batch
from trainer.data.tied_tokens import SpanSet
from trainer.objectives.parts.prediction_pairs import paired_by_order, paired_by_span, predictions


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


def test_by_order_up_to_the_shorter_side() -> None:
    student, teacher = paired_by_order(bools("x.xx", "...x"), bools(".x.x.", "xx..."))
    # The first: 0 and 2 of the student with 1 and 3; the second: its 3 with 0. Flat: 4 and 5 positions in a row.
    assert student.tolist() == [0, 2, 7] and teacher.tolist() == [1, 3, 5]
    assert [len(side) for side in paired_by_order(bools("...."), bools("xx"))] == [0, 0]


def test_by_span_at_its_last_token_where_both_predict() -> None:
    student_label = torch.tensor([[0, 0, 1, 2], [-1, 0, 1, -1]])
    teacher_label = torch.tensor([[0, 1, 1, 2, 2], [0, 0, 1, -1, -1]])
    spans = SpanSet(student_label, teacher_label, bools("xxx", "xx."))
    student, teacher = paired_by_span(bools("xxx.", "xxxx"), bools("xxxxx", "x.xxx"), spans)
    # Last tokens: 1 2 3 and 1 2 of the student, 0 2 4 and 1 2 of the teacher. Two of five are no predictions.
    assert student.tolist() == [1, 2, 4 + 2] and teacher.tolist() == [0, 2, 5 + 2]

"""What several students compare with is made once: the head's own numbers, of exactly these rows, within the budget."""

import pytest
import torch
from torch import Tensor

from schemas.models.logits import LogitTransform
from schemas.models.teacher_head import ROWS, TeacherHead
from trainer.data.teacher_logits import TeacherLogits

BYTES = 3 * 7 * 4  # of three rows over seven tokens
CHUNKS = [slice(0, 3), slice(3, 6)]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows of each product with a head."""
    rows: list[int] = []
    forward = TeacherHead.forward

    def count(self: TeacherHead, hidden: Tensor, ids: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        rows.append(len(hidden))
        return forward(self, hidden, ids, temperature)

    monkeypatch.setattr(TeacherHead, "forward", count)
    return rows


def make_head() -> TeacherHead:
    return TeacherHead(torch.randn(7, 5), torch.randn(7), LogitTransform())


def test_the_second_student_gets_a_copy_of_the_same_numbers(made: list[int]) -> None:
    head, hidden = make_head(), torch.randn(6, 5)
    wanted = torch.cat([head(hidden[chunk], temperature=2.0) for chunk in CHUNKS])
    logits = TeacherLogits(2 * BYTES)
    made.clear()
    for _ in range(2):
        rows = logits(head, hidden.clone(), 2.0)
        for chunk in CHUNKS:
            given = rows(chunk)
            assert torch.equal(given, wanted[chunk])
            assert given.stride() == (ROWS, 1)  # sums over rows that lie otherwise round otherwise
            given.zero_()  # as a loss may
    assert made == [3, 3]


def test_what_differs_in_anything_is_made_anew(made: list[int]) -> None:
    head, other, hidden = make_head(), make_head(), torch.randn(6, 5)
    moved = hidden.clone()
    moved[0, 0] += 1e-6
    logits = TeacherLogits(100 * BYTES)
    asked = [
        (head, hidden, 1.0),
        (head, hidden, 2.0),
        (other, hidden, 1.0),
        (head, moved, 1.0),
        (head, hidden[:3], 1.0),
    ]
    for of, states, temperature in asked:
        wanted = of(states[:3], temperature=temperature)
        made.clear()
        assert torch.equal(logits(of, states, temperature)(slice(0, 3)), wanted)
        assert made == [3]
    logits(head, hidden)(slice(0, 2))  # of a student whose chunks are smaller
    assert made == [3, 2]


def test_no_more_is_held_than_may_be(made: list[int]) -> None:
    head, hidden = make_head(), torch.randn(6, 5)
    for most, again in ((0, [3, 3]), (BYTES - 1, [3, 3]), (BYTES, [3]), (2 * BYTES, [])):
        logits = TeacherLogits(most)
        for chunk in CHUNKS:
            logits(head, hidden)(chunk)
        made.clear()
        for chunk in CHUNKS:
            logits(head, hidden)(chunk)
        assert made == again

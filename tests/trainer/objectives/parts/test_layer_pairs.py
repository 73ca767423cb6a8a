"""Key layers: phi(l) = round(l L_T / L_S) by hand, or as the config pairs them."""

from typing import Any

import pytest

from schemas.errors import ConfigError, RunError
from schemas.layers import Top
from tests.trainer.objectives.world import L_S, L_T, make_context
from trainer.objectives.parts.layer_pairs import layer_pairs


def pairs(student: Any, teacher: Any = None) -> tuple[tuple[int, int], ...]:
    return layer_pairs(student, teacher, make_context(), "mta")


def test_teacher_layers_follow_at_the_same_depth() -> None:
    assert (L_S, L_T) == (6, 9)
    # 1.5 and 4.5 are rounded to the even number, as Python does it.
    assert pairs([0, 1, 2, 3, 4, 5, 6]) == ((0, 0), (1, 2), (2, 3), (3, 4), (4, 6), (5, 8), (6, 9))
    assert pairs(Top(top=2)) == ((4, 6), (6, 9))


def test_pairs_are_the_configs_where_it_names_both() -> None:
    assert pairs([6, 2], [1, "last"]) == ((2, 1), (6, 9))
    assert pairs([-1, 3], [-2, -2]) == ((3, 8), (6, 8))


@pytest.mark.parametrize(
    ("student", "teacher", "error", "said"),
    [
        (
            [2, 6],
            [3],
            RunError,
            r"^mta\.teacher_layers: 1 teacher layers for 2 student layers \(2, 6\); give one for each",
        ),
        ([2, 6], [4, 3], RunError, r"^mta\.teacher_layers: 4, 3 do not ascend as the student's layers do; sort them$"),
        ([7], None, ConfigError, r"^mta\.student_layers: there is no layer 7; the model has layers 0 .* to 6"),
        ([6], [10], ConfigError, r"^mta\.teacher_layers: there is no layer 10; the model has layers 0 .* to 9"),
    ],
)
def test_pairs_that_cannot_be_are_named(student: Any, teacher: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        pairs(student, teacher)

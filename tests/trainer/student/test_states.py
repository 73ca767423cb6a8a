"""A pass of the student answers what was asked for before it, and nothing else."""

import pytest
import torch

from schemas.errors import RunError
from tests.trainer.objectives.answers import whole_logits
from trainer.student.states import (
    StudentHidden,
    StudentLogits,
    StudentMass,
    StudentPooled,
    StudentStates,
    layers_of,
)


def test_answers_are_found_by_equal_requests() -> None:
    hidden, logits = torch.ones(1), torch.zeros(1)
    states = StudentStates({StudentHidden(3): hidden, StudentLogits(): logits})
    assert states[StudentHidden(3)] is hidden and whole_logits(states) is logits
    with pytest.raises(RunError, match=r"^StudentHidden\(layer=2\) was not asked for"):
        states[StudentHidden(2)]
    with pytest.raises(RunError, match=r"^StudentMass\(layer=3\) was not asked for"):
        states[StudentMass(3)]


def test_layers_are_those_of_one_kind_of_request() -> None:
    requests = [StudentHidden(3), StudentMass(1), StudentHidden(0), StudentLogits(), StudentPooled(5), StudentHidden(3)]
    assert layers_of(StudentHidden, requests) == {0, 3}
    assert layers_of(StudentMass, requests) == {1} and layers_of(StudentPooled, requests) == {5}
    assert layers_of(StudentHidden, [StudentLogits()]) == frozenset()

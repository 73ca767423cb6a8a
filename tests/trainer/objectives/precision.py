"""How near two numbers must be: within 1e-5 of float64, or as near as the same loops come in the same precision."""

import copy
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from tests.trainer.objectives.answers import moved
from trainer.data.batch import Batch
from trainer.data.teacher_states import TeacherHidden, TeacherMass
from trainer.student.states import StudentMass, StudentStates

TOLERANCE = 1e-5  # in float64 too: the teacher's head computes in float32 whatever the student does


def gradient_of(leaf: Tensor) -> Tensor:
    """What reached it."""
    assert leaf.grad is not None
    return leaf.grad


def error(found: Tensor, right: Tensor) -> float:
    """Relative to the largest number of `right`: single entries of a gradient may cancel to nothing."""
    scale = max(float(right.abs().max()), 1e-3)
    return float((found.double() - right.double()).abs().max()) / scale


def close(found: Tensor, wanted: Tensor, tolerance: float) -> None:
    assert error(found, wanted) <= tolerance


def assert_as_precise(found: Mapping[str, Tensor], right: Mapping[str, Tensor], plain: Mapping[str, Tensor]) -> None:
    """Tensors by name: ours, the naive loops' in float64, and theirs in our precision, all over the same numbers.

    Where float32 loses digits, as cosines do that cancel, ours may err by twice what the loops in float32 do.
    """
    assert found.keys() == right.keys() == plain.keys()
    for name, wanted in right.items():
        allowed = max(TOLERANCE, 2 * error(plain[name], wanted))
        assert error(found[name], wanted) <= allowed, (name, error(found[name], wanted), allowed)


def numbered(tensors: Iterable[Tensor]) -> dict[str, Tensor]:
    return {f"gradient {number}": tensor for number, tensor in enumerate(tensors)}


def in_double(student: StudentStates, batch: Batch) -> tuple[StudentStates, Batch]:
    """The same numbers in float64; what was a leaf is one again."""

    def doubled(tensor: Tensor, wants_gradient: bool = False) -> Tensor:
        return tensor.detach().double().requires_grad_(wants_gradient)

    def answered(request: Any, answer: Any) -> Any:
        if isinstance(answer, nn.Module):
            return copy.deepcopy(answer).double()
        return doubled(answer, not isinstance(request, StudentMass))

    states = StudentStates({request: answered(request, answer) for request, answer in student.answers.items()})
    return states, moved(moved(batch, TeacherHidden, doubled), TeacherMass, doubled)

"""What a batch and a student answered, by layer, and the same with other answers."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from trainer.data.batch import Batch
from trainer.student.logits import Logits
from trainer.student.states import StudentHidden, StudentLogits, StudentStates

States = TypeVar("States", Batch, StudentStates)


def whole_logits(student: StudentStates) -> Tensor:
    """The student's logits as one matrix [B, S, V]: the leaf itself, where a test has made one."""
    logits: Tensor | Logits = student[StudentLogits()]
    return logits.whole() if isinstance(logits, Logits) else logits


def of_kind(states: Batch | StudentStates, kind: type[Any]) -> dict[Any, Any]:
    """The answers to requests of one kind, by request."""
    return {request: answer for request, answer in states.answers.items() if isinstance(request, kind)}


def by_layer(states: Batch | StudentStates, kind: type[Any]) -> dict[int, Tensor]:
    """The answers to requests that name a layer, ascending."""
    found = {request.layer: answer for request, answer in of_kind(states, kind).items()}
    return dict(sorted(found.items()))


def with_answers(states: States, answers: Mapping[Any, Any]) -> States:
    """`states` with these answers instead of its own, and all its others."""
    return replace(states, answers={**states.answers, **answers})


def moved(states: States, kind: type[Any], move: Callable[[Any], Any]) -> States:
    """`states` with every answer to requests of one kind moved."""
    return with_answers(states, {request: move(answer) for request, answer in of_kind(states, kind).items()})


def in_dtype(student: StudentStates, dtype: torch.dtype) -> StudentStates:
    """The same logits and hidden states in another dtype, as leaves that want a gradient; masses as they are."""

    def leaf(state: Tensor) -> Tensor:
        return state.detach().to(dtype).requires_grad_()

    return moved(moved(student, StudentLogits, leaf), StudentHidden, leaf)

"""A loss against an independent truth: its terms, the objective over it, and every gradient, in either precision."""

import copy
from collections.abc import Callable, Collection
from typing import Any

import pytest
import torch

from schemas.cache.teacher import HeadRecord
from tests.trainer.objectives.given import GivenContext
from tests.trainer.objectives.precision import assert_as_precise, in_double, numbered
from tests.trainer.objectives.world import (
    counts_of,
    gradients,
    losses_of,
    make_batch,
    to_double,
)
from trainer.data.batch import Batch
from trainer.objectives.objective import Objective, build_objective
from trainer.student.states import StudentStates

SOFTCAPPED = HeadRecord(dtype="float32", bias=False, scale=0.5, softcap=3.0)


DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])


def assert_matches(
    config: Any,
    context: GivenContext,
    seed: int,
    dtype: torch.dtype,
    truth: Callable[..., Any],
    same: bool = False,
    silent: Collection[str] = (),
) -> Any:
    """`truth(loss, student, batch)` gives unweighted totals by name; compare them, the objective, and its gradients."""
    objective = build_objective([config], context)
    if dtype == torch.float64:
        to_double(objective)
    student, batch = make_batch(objective, seed, same=same, dtype=dtype)
    counts = counts_of(batch)
    (loss,) = losses_of(objective)
    terms = loss(student, batch)
    assert all(term.weight == 0 for name, term in terms.items() if name in silent)
    scalar, _ = objective(student, batch, counts)
    found = {name: term.total.detach() for name, term in terms.items() if name not in silent}
    found |= {"objective": scalar.detach(), **numbered(gradients(scalar, student, objective))}

    def naively(objective: Objective, student: StudentStates, batch: Batch) -> Any:
        expected = truth(losses_of(objective)[0], student, batch)
        values = {name: torch.as_tensor(expected[name]) for name in terms if name not in silent}
        parts = [
            config.weight * terms[name].weight * x / counts[losses_of(objective)[0].divisor]
            for name, x in values.items()
        ]
        wanted = sum(parts, torch.zeros((), dtype=torch.float64))
        return {name: value.detach() for name, value in values.items()} | {
            "objective": wanted.detach(),
            **numbered(gradients(wanted, student, objective)),
        }

    right = naively(to_double(copy.deepcopy(objective)), *in_double(student, batch))
    assert_as_precise(found, right, right if dtype == torch.float64 else naively(objective, student, batch))
    return terms

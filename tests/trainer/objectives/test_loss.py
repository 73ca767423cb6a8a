"""What every loss has of its config, and what it must bring itself."""

from typing import Any, cast

import pytest

from schemas.configs.losses.kd import KDConfig
from trainer.data.batch import Batch
from trainer.objectives.kernels.carried import CarriedCrossEntropy
from trainer.objectives.loss import Carrier, Loss, Term
from trainer.student.states import StudentStates


class Nothing(Loss):
    """Has no term."""

    def forward(self, student: StudentStates, batch: Batch) -> dict[str, Term]:
        return {}


class Passing(Carrier):
    """Has no term, and could take cross-entropy along."""

    def forward(
        self, student: StudentStates, batch: Batch, carried: CarriedCrossEntropy | None = None
    ) -> dict[str, Term]:
        return {}


@pytest.mark.parametrize("kind", [Nothing, Passing])
def test_a_loss_has_name_and_weight_and_no_parameters_of_its_own(kind: type[Loss]) -> None:
    loss = kind(KDConfig(weight=0.25))
    assert (loss.name, loss.weight, loss.chunks, loss.parameter_groups()) == ("kd", 0.25, None, [])
    assert list(loss.parameters()) == []


@pytest.mark.parametrize("kind", [Loss, Carrier])
def test_a_loss_without_terms_is_none(kind: type[Loss]) -> None:
    with pytest.raises(TypeError, match=rf"Can't instantiate abstract class {kind.__name__} .*forward"):
        kind(KDConfig())


def test_a_term_weighs_as_it_is_unless_it_says_so() -> None:
    assert Term(cast(Any, None)).weight == 1.0

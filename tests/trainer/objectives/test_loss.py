"""What every loss has of its config, and what it must bring itself."""

from typing import Any, cast

import pytest

from schemas.configs.losses.kd import KDConfig
from tests.trainer.objectives.world import make_batch, make_context
from trainer.objectives.loss import Carrier, Loss, Term
from trainer.objectives.objective import build_objective


@pytest.mark.parametrize("kind", [Loss, Carrier])
def test_a_loss_has_name_and_weight_and_no_parameters_of_its_own(kind: type[Loss]) -> None:
    loss = kind(KDConfig(weight=0.25))
    assert (loss.name, loss.weight, loss.chunks, loss.parameter_groups()) == ("kd", 0.25, None, [])
    student, batch = make_batch(build_objective([KDConfig()], make_context(same=True)), same=True)
    with pytest.raises(NotImplementedError):
        loss(student, batch)


def test_a_term_weighs_as_it_is_unless_it_says_so() -> None:
    assert Term(cast(Any, None)).weight == 1.0

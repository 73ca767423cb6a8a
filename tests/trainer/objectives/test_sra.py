"""SRA over several pairs of layers: L_cos is the mean of what each pair gives alone, all else is of the one pair."""

from typing import Any

import pytest
import torch

from schemas.configs.losses.sra import SRAConfig
from schemas.errors import ConfigError
from tests.trainer.objectives.answers import by_layer
from tests.trainer.objectives.world import L_S, L_T, counts_of, losses_of, make_batch, make_context, to_double
from trainer.data.teacher_states import TeacherHidden, TeacherMass
from trainer.objectives.objective import build_objective
from trainer.student.states import StudentHidden, StudentMass

PAIRS = [(2, 4), (-2, -3), ("last", "last")]
RESOLVED = [(2, 4), (L_S - 1, L_T - 2), (L_S, L_T)]


@pytest.mark.parametrize("bias", [False, True])
def test_cos_is_a_mean_over_pairs_of_layers(bias: bool) -> None:
    projection = {"bias": bias, "init": "linear"}
    objective = to_double(build_objective([SRAConfig(cos_layers=PAIRS, projection=projection)], make_context(1)))
    student, batch = make_batch(objective, 1)
    _, parts = objective(student, batch, counts_of(batch))
    (loss,) = losses_of(objective)
    alone = []
    for number, (own, theirs) in enumerate(RESOLVED):
        config = SRAConfig(student_layer=own, teacher_layer=theirs, projection=projection)
        single = to_double(build_objective([config], make_context(1)))
        losses_of(single)[0].projection.data = loss.projections[str(number)].data
        if bias:
            losses_of(single)[0].biases["0"].data = loss.biases[str(number)].data
        alone.append(single(student, batch, counts_of(batch))[1])
    torch.testing.assert_close(parts["sra/cos"], sum(each["sra/cos"] for each in alone) / 3)
    for name in ("sra/geo", "sra/span_kd", "sra/effective_spans"):  # of the last layers
        torch.testing.assert_close(parts[name], alone[-1][name])
    group: Any = objective.parameter_groups()[0]
    assert len(group["params"]) == (6 if bias else 3)


def test_every_layer_of_a_pair_is_asked_for_and_must_exist() -> None:
    objective = build_objective([SRAConfig(cos_layers=PAIRS, span_kd=0)], make_context())
    student, batch = make_batch(objective)
    for states, kind, layers in (
        (student, StudentHidden, {2, 5, 6}),
        (student, StudentMass, {2, 5, 6}),
        (batch, TeacherHidden, {4, 7, 9}),
        (batch, TeacherMass, {4, 7, 9}),
    ):
        assert by_layer(states, kind).keys() == layers
    with pytest.raises(ConfigError, match=r"sra\.cos_layers: there is no layer 12"):
        build_objective([SRAConfig(cos_layers=[(1, 12)])], make_context())


def test_the_projection_of_the_only_pair_keeps_its_name() -> None:
    """Checkpoints of before know it by that."""
    assert list(build_objective([SRAConfig()], make_context()).state_dict()) == ["losses.0.projection"]
    several = build_objective([SRAConfig(cos_layers=PAIRS)], make_context()).state_dict()
    assert list(several) == [f"losses.0.projections.{number}" for number in range(3)]

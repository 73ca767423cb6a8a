"""SRA under every switch against the triple loops of naive.py; over several pairs of layers, L_cos is their mean."""

from typing import Any

import pytest
import torch

from schemas.configs.losses.sra import SRAConfig
from schemas.errors import ConfigError
from tests.trainer.objectives import naive
from tests.trainer.objectives.answers import by_layer
from tests.trainer.objectives.given import GivenContext
from tests.trainer.objectives.matches import DTYPES, SOFTCAPPED, assert_matches
from tests.trainer.objectives.world import (
    L_S,
    L_T,
    SEEDS,
    counts_of,
    losses_of,
    make_batch,
    make_context,
    to_double,
)
from trainer.data.batch import Batch
from trainer.data.teacher_states import TeacherHidden, TeacherMass
from trainer.data.tied_tokens import Spans
from trainer.objectives.objective import build_objective
from trainer.student.states import StudentHidden, StudentMass, StudentStates

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


SRA_SWITCHES = {
    "default": {},
    "weights": {"weight": 0.3, "cos": 2.0, "geo": 10.0, "span_kd": 0.5},
    "cos alone": {"geo": 0, "span_kd": 0},
    "geo alone": {"cos": 0, "span_kd": 0},
    "span_kd alone": {"cos": 0, "geo": 0},
    "mean pooling": {"pooling": "mean"},
    "equal weights": {"span_weights": "equal"},
    "neither": {"pooling": "mean", "span_weights": "equal"},
    "exponent 0": {"mass_exponent": 0},
    "exponent 0.5": {"mass_exponent": 0.5},
    "ignore 1": {"ignore_first": 1},
    "ignore 1, exponent 0": {"ignore_first": 1, "mass_exponent": 0},
    "ignore 3, mean pooling": {"ignore_first": 3, "pooling": "mean"},
    "ignore all": {"ignore_first": 100},
    "mean of spans": {"span_kd_reduction": "mean"},
    "mass floor": {"mass_floor": 0.2},
    "temperature": {"temperature": 0.7},
    "inner layers": {"student_layer": 3, "teacher_layer": -4},
    "embeddings": {"student_layer": 0, "teacher_layer": 0, "pooling": "mean", "span_weights": "equal"},
    "xavier": {"projection": {"init": "xavier"}},
}


@DTYPES
@pytest.mark.parametrize("switches", SRA_SWITCHES.values(), ids=SRA_SWITCHES)
def test_every_switch_is_the_plain_loop(switches: dict[str, Any], dtype: torch.dtype) -> None:
    for seed in SEEDS[dtype]:
        assert_sra(SRAConfig(**switches), make_context(seed), seed, dtype)


@pytest.mark.parametrize(
    "shared",
    [(range(7), range(7)), (range(5), [8, 7, 6, 5, 4]), ([1], [2]), ([1, 3], [0, 1])],
    ids=["first columns", "student's first columns", "one token", "teacher's first rows"],
)
def test_sra_over_any_shared_vocabulary(shared: Any) -> None:
    assert_sra(SRAConfig(), make_context(3, shared=tuple(map(list, shared))), 3, torch.float64)


def test_sra_with_a_soft_capped_teacher() -> None:
    assert_sra(SRAConfig(), make_context(4, record=SOFTCAPPED), 4, torch.float64)


def assert_sra(config: Any, context: GivenContext, seed: int, dtype: torch.dtype) -> None:
    def truth(loss: Any, student: StudentStates, batch: Batch) -> Any:
        student_layer = {"last": L_S}.get(config.student_layer, config.student_layer)
        teacher_layer = {"last": L_T, -4: L_T - 3}.get(config.teacher_layer, config.teacher_layer)
        spans = batch[Spans("aligned", "response", max_spans=1024)]
        return naive.sra(
            student,
            batch,
            spans,
            config,
            (student_layer, teacher_layer),
            (L_S, L_T),
            loss.projection if config.cos else None,
            context.head,
            context.vocabulary,
        )

    terms = assert_matches(config, context, seed, dtype, truth, silent=("effective_spans",))
    names = {name for name in ("cos", "geo", "span_kd") if getattr(config, name) > 0}
    assert set(terms) - {"effective_spans"} == names

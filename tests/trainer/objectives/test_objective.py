"""Building an objective: what it asks for, what it refuses and how it says so, its names, weights and parameters."""

from typing import Any

import pytest
import torch

from schemas.configs.losses.ce import CrossEntropyConfig
from schemas.configs.losses.kd import KDConfig
from schemas.configs.losses.mta import MTAConfig
from schemas.configs.losses.sra import SRAConfig
from schemas.errors import ConfigError, RunError
from tests.trainer.objectives.world import D_S, D_T, counts_of, losses_of, make_batch, make_context
from trainer.data.teacher_states import TeacherHidden, TeacherMass
from trainer.data.tied_tokens import SameTokenPositions, Spans
from trainer.objectives.objective import build_objective
from trainer.student.states import StudentHidden, StudentLogits, StudentMass

ALIGNED = Spans("aligned", "response", max_spans=1024)
WORD, PHRASE = Spans("word", "text"), Spans("phrase", "text", ("noun", "verb"))


def requests(config: Any, same: bool = False) -> Any:
    objective = build_objective([config], make_context(same=same))
    return objective.of_batch | objective.of_student


def hidden(*layers: int) -> set[Any]:
    return {TeacherHidden(layer) for layer in layers}


def mass(*layers: int) -> set[Any]:
    return {TeacherMass(layer) for layer in layers}


def of_student(*layers: int) -> set[Any]:
    return {StudentHidden(layer) for layer in layers}


def student_mass(*layers: int) -> set[Any]:
    return {StudentMass(layer) for layer in layers}


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        (SRAConfig(), hidden(9) | mass(9) | of_student(6) | student_mass(6) | {ALIGNED}),
        (
            SRAConfig(teacher_layer=4, student_layer=2),
            hidden(4, 9) | mass(4, 9) | of_student(2) | student_mass(2, 6) | {ALIGNED},
        ),
        (
            SRAConfig(teacher_layer=4, span_kd=0, pooling="mean"),
            hidden(4) | mass(4) | of_student(6) | {ALIGNED},
        ),
        (
            SRAConfig(span_kd=0, pooling="mean", mass_exponent=0, max_spans=64),
            hidden(9) | of_student(6) | {Spans("aligned", "response", (), 64)},
        ),
        (SRAConfig(cos=0, geo=0), hidden(9) | mass(9) | student_mass(6) | {ALIGNED}),
        (SRAConfig(cos=0, geo=0, pooling="mean"), hidden(9) | {ALIGNED}),
        (CrossEntropyConfig(), set()),
    ],
    ids=["sra", "inner layers", "mean pooling", "no masses", "span_kd alone", "span_kd, mean pooling", "ce"],
)
def test_a_loss_asks_for_what_it_reads_and_nothing_else(config: Any, wanted: Any) -> None:
    assert requests(config) == wanted | {StudentLogits()}


def test_mta_asks_by_tokenizer_and_terms() -> None:
    states = hidden(6, 8, 9) | of_student(4, 5, 6)
    both, positions = {WORD, PHRASE}, {SameTokenPositions()}
    assert requests(MTAConfig(), same=True) == states | both | positions
    assert requests(MTAConfig(), same=False) == states | both
    assert requests(MTAConfig(hid=0), same=True) == states | both
    assert requests(MTAConfig(word_layers=0), same=False) == states | both
    assert requests(MTAConfig(word_layers=0, hid=0)) == states | {PHRASE}
    assert requests(MTAConfig(word_layers=0, dsa=0)) == states | {WORD}
    assert positions <= requests(MTAConfig(hid=0, pooling_weights="teacher"), same=True)
    assert requests(MTAConfig(phrases=["verb", "noun"])) == requests(MTAConfig())


def test_an_objective_asks_for_what_any_of_its_losses_reads() -> None:
    objective = build_objective([CrossEntropyConfig(), KDConfig(), SRAConfig(), MTAConfig()], make_context(same=True))
    assert objective.of_batch == hidden(6, 8, 9) | mass(9) | {ALIGNED, WORD, PHRASE, SameTokenPositions()}
    assert objective.of_student == {StudentLogits()} | of_student(4, 5, 6) | student_mass(6)
    assert objective.divisors == {"token", "pair", "sample"}


def test_what_was_not_asked_for_is_not_answered() -> None:
    objective = build_objective([SRAConfig(pooling="mean", span_weights="equal")], make_context())
    student, batch = make_batch(objective)
    with pytest.raises(RunError, match=r"TeacherMass\(layer=9, kind='mass'\) was not asked for"):
        batch[TeacherMass(9)]
    with pytest.raises(RunError, match=r"StudentMass\(layer=6\) was not asked for"):
        student[StudentMass(6)]


@pytest.mark.parametrize(
    ("config", "cache", "message"),
    [
        (
            MTAConfig(),
            {"hidden": [9]},
            "mta needs the teacher's hidden layers 6, 8, 9; the cache holds 9. "
            "Run `stillroom extend` with states.hidden: [6, 8, 9]",
        ),
        (
            SRAConfig(teacher_layer=4),
            {"hidden": [4, 9], "mass": []},
            "sra needs the teacher's token masses of layers 4, 9; the cache holds none. "
            "Run `stillroom extend` with states.mass: [4, ",
        ),
        (SRAConfig(), {"hidden": [2]}, "Run `stillroom extend` with states.hidden: [2, 9]"),
        (KDConfig(), {"hidden": [2], "same": True}, "kd needs the teacher's hidden layers 9; the cache holds 2."),
        (
            KDConfig(),
            {},
            "kd pairs tokens one to one, and student and teacher have different tokenizers. Use a loss for any two: "
            "sra, which aligns spans, alm, mta, mined, multilevel_ot or uld; or give the student the tokenizer "
            "'teacher'",
        ),
        (KDConfig(), {"same": True, "kind": "encoder"}, "is an encoder. Use sra with span_kd: 0"),
        (SRAConfig(), {"kind": "encoder"}, "is an encoder. Set span_kd: 0"),
        (SRAConfig(), {"shared": ([], [])}, "share no token, so span_kd has nothing to compare. Set span_kd: 0"),
        (SRAConfig(teacher_layer=0), {}, "teacher layer 0 is the embeddings, which no attention makes"),
        (SRAConfig(student_layer=0), {}, "student layer 0 is the embeddings, which no attention makes"),
        (
            MTAConfig(),
            {"annotator": "words 1 (Unicode 14.0.0)"},
            "Extract into a new output with spans.annotator: english",
        ),
        (MTAConfig(hid_pairs="token"), {}, "mta's hid_pairs: token pairs tokens one to one"),
        (MTAConfig(pooling_weights="teacher"), {}, "mta's pooling_weights: teacher pairs tokens one to one"),
        (MTAConfig(teacher_layers=[3, 9]), {}, "2 teacher layers for 3 student layers (4, 5, 6)"),
        (MTAConfig(teacher_layers=[3, 9, 6]), {}, "3, 9, 6 do not ascend"),
        (MTAConfig(word_layers=4), {}, "mta.word_layers: 4 of only 3 key layers"),
    ],
)
def test_refusals_name_the_way_out(config: Any, cache: dict[str, Any], message: str) -> None:
    with pytest.raises(RunError) as refused:
        build_objective([CrossEntropyConfig(), config], make_context(**cache))
    assert message in str(refused.value)


def test_an_encoder_teaches_without_logits() -> None:
    objective = build_objective([SRAConfig(span_kd=0)], make_context(kind="encoder"))
    student, batch = make_batch(objective)
    objective.double()
    scalar, parts = objective(student, batch, counts_of(batch))
    assert parts.keys() == {"sra/cos", "sra/geo", "sra/effective_spans"}
    assert scalar.item() == pytest.approx(parts["sra/cos"].item() + parts["sra/geo"].item())


def test_layers_that_do_not_exist() -> None:
    with pytest.raises(ConfigError, match=r"sra.teacher_layer: there is no layer 10"):
        build_objective([SRAConfig(teacher_layer=10)], make_context())
    with pytest.raises(ConfigError, match=r"mta.student_layers: there is no layer 7"):
        build_objective([MTAConfig(student_layers=[7])], make_context())


def test_a_loss_of_weight_zero_is_left_out() -> None:
    objective = build_objective(
        [CrossEntropyConfig(), MTAConfig(weight=0)], make_context(annotator="words 1 (Unicode 14.0.0)")
    )
    assert len(objective.losses) == 1
    assert objective.of_batch == set() and objective.of_student == {StudentLogits()}
    with pytest.raises(RunError, match="the objective is empty"):
        build_objective([CrossEntropyConfig(weight=0)], make_context())


def test_the_scalar_is_the_weighted_sum_of_the_parts() -> None:
    configs = [
        CrossEntropyConfig(weight=0.5),
        SRAConfig(weight=0.25, cos=2, geo=3, span_kd=5),
        MTAConfig(weight=4),
        SRAConfig(weight=2, cos=1, geo=0, span_kd=0, mass_exponent=0),
    ]
    objective = build_objective(configs, make_context(same=True))
    student, batch = make_batch(objective, same=True, dtype=torch.float32)
    scalar, parts = objective(student, batch, counts_of(batch))
    value = {name: part.item() for name, part in parts.items()}
    assert list(value) == [
        *("ce/nll", "sra/effective_spans", "sra/cos", "sra/geo", "sra/span_kd", "mta/dsa", "mta/hid"),
        *("sra2/effective_spans", "sra2/cos"),
    ]
    wanted = 0.5 * value["ce/nll"] + 0.25 * (2 * value["sra/cos"] + 3 * value["sra/geo"] + 5 * value["sra/span_kd"])
    wanted += 4 * (2.0 * value["mta/dsa"] + 0.2 * value["mta/hid"]) + 2 * value["sra2/cos"]
    assert scalar.item() == pytest.approx(wanted, rel=1e-5)
    assert not any(part.requires_grad for part in parts.values())


def test_effective_spans_count_the_spans_that_carry_the_weight() -> None:
    objective = build_objective([SRAConfig(span_weights="equal")], make_context())
    student, batch = make_batch(objective, dtype=torch.float32)
    _, parts = objective(student, batch, counts_of(batch))
    spans = int(batch[ALIGNED].mask_BK.sum())
    assert spans > 3
    assert parts["sra/effective_spans"].item() == pytest.approx(spans / len(batch.sample_ids))


def test_projections_are_seeded_orthogonal_and_named() -> None:
    def build(seed: int, **projection: Any) -> Any:
        torch.manual_seed(seed)
        losses = [SRAConfig(projection=projection), MTAConfig(projection={"lr": 1e-2})]
        return build_objective(losses, make_context())

    objective = build(1)
    state = objective.state_dict()
    names = ["losses.0.projection", *(f"losses.1.projections.{layer}" for layer in (4, 5, 6))]
    assert list(state) == names
    assert all(matrix.shape == (D_S, D_T) and matrix.dtype == torch.float32 for matrix in state.values())
    for matrix in state.values():
        torch.testing.assert_close(matrix.T @ matrix, torch.eye(D_T))
    again, other, xavier = build(1).state_dict(), build(2).state_dict(), build(1, init="xavier").state_dict()
    assert all(torch.equal(again[name], state[name]) for name in names)
    assert not torch.equal(other[names[0]], state[names[0]])
    bound = (6 / (D_S + D_T)) ** 0.5
    assert xavier[names[0]].abs().max() <= bound
    assert not torch.allclose(xavier[names[0]].T @ xavier[names[0]], torch.eye(D_T), atol=1e-3)
    objective.load_state_dict(other)
    assert torch.equal(losses_of(objective)[0].projection, other[names[0]])


def test_parameter_groups() -> None:
    objective = build_objective([CrossEntropyConfig(), SRAConfig(), MTAConfig(projection={"lr": 1e-2})], make_context())
    groups: list[Any] = objective.parameter_groups()
    assert [(len(g["params"]), g["lr"], g["weight_decay"]) for g in groups] == [(1, 5e-4, 0.0), (3, 1e-2, 0.0)]
    assert {id(p) for g in groups for p in g["params"]} == {id(p) for p in objective.parameters()}
    for unprojected in (SRAConfig(cos=0), MTAConfig(hid=0), CrossEntropyConfig()):
        assert build_objective([unprojected], make_context()).parameter_groups() == []


def test_the_shared_part_of_the_head_is_a_copy_only_where_it_is_a_part() -> None:
    whole = make_context(shared=(list(range(7)), list(range(7))))
    assert losses_of(build_objective([SRAConfig()], whole))[0].head.weight_Vd.shape == (7, D_T)
    context = make_context(shared=([0, 2, 3, 6], [5, 0, 8, 2]))
    head = losses_of(build_objective([SRAConfig()], context))[0].head
    assert torch.equal(head.weight_Vd, context.head.weight_Vd[[5, 0, 8, 2]])
    assert torch.equal(head.bias_V, context.head.bias_V[[5, 0, 8, 2]])


@pytest.mark.parametrize("unit", ["word", "phrase"])
def test_sra_over_words_or_phrases(unit: str) -> None:
    (loss,) = losses_of(build_objective([SRAConfig(spans=unit)], make_context()))
    assert (loss.spans.level, loss.spans.scope) == (unit, "response")
    if unit == "phrase":
        with pytest.raises(RunError, match=r"words only.* set sra\.spans to word or aligned"):
            build_objective([SRAConfig(spans=unit)], make_context(annotator="words 1"))

"""Every loss, under every switch, against the triple loops of naive.py: value and gradient, in float64 and float32."""

import copy
from collections.abc import Callable, Collection
from typing import Any

import pytest
import torch

from schemas.cache.teacher import HeadRecord
from schemas.configs.losses.ce import CrossEntropyConfig
from schemas.configs.losses.kd import KDConfig
from schemas.configs.losses.mta import MTAConfig
from schemas.configs.losses.sra import SRAConfig
from schemas.layers import Top
from tests.trainer.objectives import naive
from tests.trainer.objectives.given import GivenContext
from tests.trainer.objectives.precision import assert_as_precise, in_double, numbered
from tests.trainer.objectives.world import (
    L_S,
    L_T,
    SEEDS,
    counts_of,
    gradients,
    losses_of,
    make_batch,
    make_context,
    to_double,
)
from trainer.data.batch import Batch
from trainer.data.tied_tokens import Spans
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


@DTYPES
@pytest.mark.parametrize("seed", range(3))
def test_cross_entropy(seed: int, dtype: torch.dtype) -> None:
    truth = lambda loss, student, batch: naive.ce(student, batch)  # noqa: E731
    assert_matches(CrossEntropyConfig(weight=0.7), make_context(), seed, dtype, truth)


@DTYPES
@pytest.mark.parametrize(("seed", "temperature", "record"), [(0, 1.0, None), (1, 2.0, SOFTCAPPED), (2, 0.5, None)])
def test_kd(seed: int, temperature: float, record: HeadRecord | None, dtype: torch.dtype) -> None:
    context = make_context(seed, same=True, record=record)

    def truth(loss: Any, student: StudentStates, batch: Batch) -> Any:
        return naive.kd(student, batch, context.head, L_T, temperature)

    assert_matches(KDConfig(temperature=temperature), context, seed, dtype, truth, same=True)


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
def test_sra(switches: dict[str, Any], dtype: torch.dtype) -> None:
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


# Student layers and the teacher layers that follow: round(l * 9 / 6), Python's rounding to even.
STRIDED = {1: ([6], [9]), 2: ([4, 6], [6, 9]), 3: ([4, 5, 6], [6, 8, 9]), 5: ([2, 3, 4, 5, 6], [3, 4, 6, 8, 9])}
MTA_SWITCHES = {
    "default": {},
    "weights": {"weight": 0.5, "dsa": 3.0, "hid": 0.3},
    "dsa alone": {"hid": 0},
    "hid alone": {"dsa": 0},
    "M = 1": {"student_layers": Top(top=1)},
    "M = 2": {"student_layers": Top(top=2)},
    "M = 5": {"student_layers": Top(top=5)},
    "all at word level": {"word_layers": 3},
    "all at phrase level": {"word_layers": 0},
    "noun phrases": {"phrases": ["noun"]},
    "uniform token weights": {"token_weights": "uniform"},
    "over the batch": {"normalise": "batch"},
    "mean over layers": {"hid_reduction": "mean"},
    "words": {"hid_pairs": "word"},
    "words over the batch": {"hid_pairs": "word", "normalise": "batch", "hid_reduction": "mean"},
    "response": {"scope": "response"},
    "chosen layers": {"student_layers": [0, -1], "teacher_layers": [0, "last"], "word_layers": 1},
}
SAME_ONLY = {
    "tokens": {"hid_pairs": "token"},
    "teacher's weights": {"pooling_weights": "teacher"},
    "teacher's weights, words": {"pooling_weights": "teacher", "hid_pairs": "word"},
    "hid alone, teacher's weights": {"pooling_weights": "teacher", "dsa": 0, "token_weights": "uniform"},
}


@DTYPES
@pytest.mark.parametrize("switches", (MTA_SWITCHES | SAME_ONLY).values(), ids=MTA_SWITCHES | SAME_ONLY)
def test_mta_with_one_tokenizer(switches: dict[str, Any], dtype: torch.dtype) -> None:
    for seed in SEEDS[dtype]:
        assert_mta(MTAConfig(**switches), seed, dtype, same=True)


@pytest.mark.parametrize("switches", MTA_SWITCHES.values(), ids=MTA_SWITCHES)
def test_mta_across_tokenizers(switches: dict[str, Any]) -> None:
    assert_mta(MTAConfig(**switches), 5, torch.float64, same=False)


def assert_mta(config: Any, seed: int, dtype: torch.dtype, same: bool) -> None:
    if isinstance(config.student_layers, Top):
        layers = list(zip(*STRIDED[config.student_layers.top], strict=True))
    else:
        layers = [(0, 0), (L_S, L_T)]
    num_words = config.word_layers if config.word_layers is not None else len(layers) // 3
    word, phrase = Spans("word", config.scope), Spans("phrase", config.scope, tuple(sorted(config.phrases)))
    by_token = same and config.hid_pairs != "word"

    def truth(loss: Any, student: StudentStates, batch: Batch) -> Any:
        key_layers = [
            (
                s,
                t,
                batch.answers.get(word if i < num_words else phrase, batch.answers.get(word)),
                batch.answers.get(word),
            )
            for i, (s, t) in enumerate(layers)
        ]
        return naive.mta(student, batch, config, key_layers, loss.projections, by_token)

    terms = assert_matches(config, make_context(seed, same=same), seed, dtype, truth, same=same)
    assert set(terms) == {name for name in ("dsa", "hid") if getattr(config, name) > 0}

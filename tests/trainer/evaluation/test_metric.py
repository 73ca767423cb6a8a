"""What a run is measured by: the metrics that are known, which of them fits, and their results as records."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

import pytest

from schemas.errors import ConfigError, RunError
from trainer.evaluation.metric import (
    METRICS,
    Material,
    Measure,
    Measurement,
    Metric,
    StudentKind,
    find_metric,
    measure,
    metric_of,
    read_measurement,
)

BITS, SPEARMAN = METRICS["bits_per_byte"], METRICS["spearman"]


@pytest.mark.parametrize(
    ("name", "material", "student", "found"),
    [
        (None, "texts", "causal", "bits_per_byte"),
        (None, "texts", None, "bits_per_byte"),
        (None, "conversations", "causal", "target_bits_per_byte"),
        (None, "pairs", "encoder", "spearman"),
        (None, "pairs", None, "spearman"),
        ("bits_per_byte", "texts", "causal", "bits_per_byte"),
        ("spearman", "pairs", None, "spearman"),
    ],
)
def test_one_that_fits_is_found(name: str | None, material: Material, student: StudentKind | None, found: str) -> None:
    assert find_metric(name, material, student).name == found


@pytest.mark.parametrize(
    ("name", "material", "student", "said"),
    [
        (
            "bits",
            "texts",
            None,
            r"unknown metric 'bits'; available: bits_per_byte, spearman, target_bits_per_byte; .* stillroom\.metrics",
        ),
        (
            "spearman",
            "texts",
            None,
            "spearman measures encoder models by pairs; metrics of texts: bits_per_byte$",
        ),
        (
            "bits_per_byte",
            "texts",
            "encoder",
            "bits_per_byte measures causal models by texts; metrics of encoder models by texts: none$",
        ),
        (None, "pairs", "causal", "no metric fits; metrics of causal models by pairs: none$"),
    ],
)
def test_one_that_does_not_fit_is_refused(
    name: str | None, material: Material, student: StudentKind | None, said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        find_metric(name, material, student)


@pytest.mark.parametrize("name", METRICS)
def test_results_are_read_back_as_what_they_are(name: str) -> None:
    fields = dict.fromkeys(METRICS[name].measurement.__dataclass_fields__, 1.5)
    found = read_measurement(fields)
    assert type(found) is METRICS[name].measurement and asdict(found) == fields
    assert metric_of(found.metrics()) is METRICS[name]
    unknown = "A model with unknown tokens has less to predict: its bits per byte flatter it."
    unscored = "Unscored are bytes of first tokens: without a BOS, nothing stands before them to predict them."
    refused = "Refused are conversations that begin with an answer, or that a model's chat template does not take."
    answers = "Unscored are bytes of answers whose tokens reach into the words of the chat template."
    cautions = {
        "spearman": [],
        "bits_per_byte": [unscored, unknown],
        "target_bits_per_byte": [refused, answers, unknown],
    }
    assert found.caution().splitlines() == cautions[name]


def test_records_of_no_known_metric_are_refused() -> None:
    assert metric_of({"step": 3, "loss": 1.0}) is None
    with pytest.raises(
        RunError,
        match=r"none of the known metrics \(bits_per_byte, spearman, target_bits_per_byte\), but \['accuracy'\]",
    ):
        read_measurement({"accuracy": 0.5})
    with pytest.raises(RunError, match=r"run\.json is damaged: its evaluation is \['pears', 'spearman'\]"):
        read_measurement({"spearman": 50.0, "pears": 3})


@dataclass(frozen=True)
class Guess(Measurement):
    guess: float

    def metrics(self) -> dict[str, float]:
        return {"guess": self.guess, "bits_per_byte": 0.0}

    def cells(self) -> dict[str, str]:
        return {"guess": f"{self.guess:.1f}"}


GUESS = replace(BITS, name="guess", order=-1, measurement=Guess, measure=lambda *_: Guess(0.5), beside=None)


@pytest.fixture
def guessing(monkeypatch: pytest.MonkeyPatch) -> Callable[[Metric], Metric]:
    """Has a package bring a metric, in front of all others by its order."""

    def bring(metric: Metric) -> Metric:
        monkeypatch.setitem(METRICS.__dict__, "_found", {"guess": metric, "bits_per_byte": BITS, "spearman": SPEARMAN})
        monkeypatch.setattr(METRICS, "_packages", {"guess": "oracle 1.0"})
        return metric

    return bring


def test_no_package_becomes_what_is_measured(guessing: Callable[[Metric], Metric]) -> None:
    metric = guessing(GUESS)
    assert find_metric(None, "texts") is find_metric(None, "texts", "causal") is BITS
    assert find_metric("guess", "texts") is metric
    figures = Guess(0.5).metrics()  # as it says them itself
    assert metric_of(figures) is BITS and metric_of({"guess": 0.5}) is metric
    with pytest.raises(ConfigError, match=r"no metric fits; metrics of causal models by pairs: guess$"):
        guessing(replace(GUESS, material="pairs"))
        find_metric(None, "pairs", "causal")


def _fail(*_: object) -> Guess:
    raise RuntimeError("my metric\nfails")


class Odd(Guess):
    def cells(self) -> dict[str, str]:
        return {"guess": self.guess}  # type: ignore[dict-item]


class Silent(Guess):
    def metrics(self) -> dict[str, float]:
        return {"hunch": 1.0}


@pytest.mark.parametrize(
    ("find", "said"),
    [
        (_fail, "RuntimeError: my metric fails"),
        (lambda *_: {"guess": 1.0}, "TypeError: it found a dict, not a Guess"),
        (lambda *_: Guess(cast(float, "1")), r"ValueError: its `metrics\(\)`: Input should be a valid number"),
        (lambda *_: Odd(1.0), r"ValueError: its `cells\(\)`: Input should be a valid string"),
        (lambda *_: Silent(1.0), r"ValueError: its `metrics\(\)` are 'hunch', without 'guess'"),
    ],
)
def test_what_a_package_measures_is_a_measurement(
    guessing: Callable[[Metric], Metric], find: Measure, said: str
) -> None:
    metric = guessing(replace(GUESS, measure=find))
    with pytest.raises(ConfigError, match=f"^the metric 'guess' of oracle 1.0 failed: {said}; mend that package"):
        measure(metric, None, cast(Any, None), [], 8, cast(Any, None))


def test_a_measurement_is_handed_on(guessing: Callable[[Metric], Metric]) -> None:
    assert measure(guessing(GUESS), None, cast(Any, None), [], 8, cast(Any, None)) == Guess(0.5)


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        (replace(GUESS, name="hunch"), "its measurement Guess has no field 'hunch'"),
        (replace(GUESS, order=cast(int, "x")), "its `order`: Input should be a valid integer"),
        (replace(GUESS, measure=cast(Measure, 3)), "its `measure`: Input should be an instance of Measure"),
        (replace(GUESS, measurement=cast(type[Measurement], dict)), "its `measurement`: .*subclass of Measurement"),
        (replace(GUESS, beside=cast(tuple[str, str], "ab")), "its `beside`: Input should be a valid tuple"),
    ],
)
def test_a_metric_of_wrong_form_is_refused(metric: Metric, said: str) -> None:
    assert METRICS.check is not None
    with pytest.raises(ValueError, match=f"^{said}$"):
        METRICS.check(metric)


def test_figures_are_shown_and_ranked_best_first() -> None:
    assert BITS.show(1.23456) == "1.2346" and SPEARMAN.show(71.234) == "71.23"
    assert sorted([1.5, 1.2, 1.4], key=BITS.rank) == [1.2, 1.4, 1.5]
    assert sorted([50.0, 70.0, 60.0], key=SPEARMAN.rank) == [70.0, 60.0, 50.0]


def test_knowing_the_metrics_costs_no_torch() -> None:
    """`compare` reads runs in milliseconds."""
    code = "import sys; from trainer.evaluation.metric import METRICS; print(*METRICS, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["bits_per_byte", "spearman", "target_bits_per_byte", "False"]

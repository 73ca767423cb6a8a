"""What a run is measured by: the metrics that are known, which of them fits, and their results as records."""

import subprocess
import sys
from dataclasses import asdict

import pytest

from schemas.errors import ConfigError, RunError
from trainer.evaluation.metric import METRICS, Material, StudentKind, find_metric, metric_of, read_measurement

BITS, SPEARMAN = METRICS["bits_per_byte"], METRICS["spearman"]


@pytest.mark.parametrize(
    ("name", "material", "student", "found"),
    [
        (None, "texts", "causal", "bits_per_byte"),
        (None, "texts", None, "bits_per_byte"),
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
        ("bits", "texts", None, r"unknown metric 'bits'; available: bits_per_byte, spearman; .* stillroom\.metrics"),
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
    assert found.caution() == (
        "" if name == "spearman" else "A model with unknown tokens has less to predict: its bits per byte flatter it."
    )


def test_records_of_no_known_metric_are_refused() -> None:
    assert metric_of({"step": 3, "loss": 1.0}) is None
    with pytest.raises(RunError, match=r"none of the known metrics \(bits_per_byte, spearman\), but \['accuracy'\]"):
        read_measurement({"accuracy": 0.5})
    with pytest.raises(RunError, match=r"run\.json is damaged: its evaluation is \['pears', 'spearman'\]"):
        read_measurement({"spearman": 50.0, "pears": 3})


def test_figures_are_shown_and_ranked_best_first() -> None:
    assert BITS.show(1.23456) == "1.2346" and SPEARMAN.show(71.234) == "71.23"
    assert sorted([1.5, 1.2, 1.4], key=BITS.rank) == [1.2, 1.4, 1.5]
    assert sorted([50.0, 70.0, 60.0], key=SPEARMAN.rank) == [70.0, 60.0, 50.0]


def test_knowing_the_metrics_costs_no_torch() -> None:
    """`compare` reads runs in milliseconds."""
    code = "import sys; from trainer.evaluation.metric import METRICS; print(*METRICS, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["bits_per_byte", "spearman", "False"]

"""A metric as one object: what it is measured on, how, and how its figures are shown and ranked.

A new metric is a module of `trainer.evaluation.metrics` with a `METRIC`, or an entry point of the group
`stillroom.metrics`. These modules are imported to compare runs, so they import torch only when they measure.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from schemas.errors import ConfigError, RunError
from schemas.form import require_instance, require_type
from schemas.registry import Registry
from schemas.shown import listed

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

Material = Literal["texts", "conversations", "pairs"]
StudentKind = Literal["causal", "encoder"]


@dataclass(frozen=True)
class Measurement(ABC):
    """The findings of a metric. Its fields are numbers, and run.json keeps them all; one bears the metric's name."""

    @abstractmethod
    def metrics(self) -> dict[str, float]:
        """The values for metrics.jsonl: the metric by its name, and figures beside it."""

    @abstractmethod
    def cells(self) -> dict[str, str]:
        """The figures as `stillroom evaluate` shows them, by the headings of their columns."""

    def caution(self) -> str:
        """Warnings, one in a line, without which a reader might misread the figures; empty if none is needed."""
        return ""


@runtime_checkable
class Measure(Protocol):
    """Measures one model."""

    def __call__(
        self,
        model: Any,
        tokenizer: "PreTrainedTokenizerBase",
        material: Sequence[Any],
        max_tokens: int,
        device: "torch.device",
    ) -> Measurement:
        """`material`: texts, `HeldOutConversations`, or `SentencePair`s. `max_tokens`: where a causal model's windows
        end; an encoder's layout says it for itself. The model is on `device` and is left in the mode it came in."""
        ...


@dataclass(frozen=True)
class Metric:
    """A figure that models are measured and compared by."""

    name: str
    """Its key in metrics.jsonl and run.json, and what a config calls it."""
    student: StudentKind
    """The kind of model that it measures."""
    material: Material
    """What it is measured on: the field of an `evaluation` that gives it, or says how its texts are read."""
    title: str
    heading: str
    """Of its column in tables."""
    decimals: int
    """As many as mean something."""
    less_is_better: bool
    measurement: type[Measurement]
    measure: Measure
    beside: tuple[str, str] | None = None
    """Key and heading of a second figure, which is shown and not ranked."""
    order: int = 100
    """Of two of stillroom's own that fit, the lower is taken where a config names none."""

    def show(self, value: float) -> str:
        """With as many decimals as mean something."""
        return f"{value:.{self.decimals}f}"

    def rank(self, value: float) -> float:
        """Ascending, best first."""
        return value if self.less_is_better else -value


def _check(metric: Metric) -> None:
    require_instance(metric, Metric)
    if metric.name not in {field.name for field in fields(metric.measurement)}:
        raise ValueError(f"its measurement {metric.measurement.__name__} has no field {metric.name!r}")


METRICS: Registry[Metric] = Registry("metric", "trainer.evaluation.metrics", "METRIC", "stillroom.metrics", _check)


def find_metric(name: str | None, material: Material, student: StudentKind | None = None) -> Metric:
    """The metric `name`, or the first of stillroom's own that fits: no package becomes what is measured by being
    installed. `student` is the kind of model, None for any.

    Raises ConfigError: unknown, or it is not measured on `material` or not of such a student.
    """
    fitting = {key: metric for key, metric in METRICS.items() if metric.material == material}
    fitting = {key: metric for key, metric in fitting.items() if student in (None, metric.student)}
    own = [metric for key, metric in fitting.items() if METRICS.own(key)]
    if name is None and own:
        return own[0]
    metric = METRICS.find(name) if name is not None else None
    if metric is not None and metric.name in fitting:
        return metric
    misfit = f"{metric.name} measures {metric.student} models by {metric.material}" if metric else "no metric fits"
    of = f"{student} models by {material}" if student else material
    raise ConfigError(f"{misfit}; metrics of {of}: {', '.join(fitting) or 'none'}")


def measure(
    metric: Metric,
    model: Any,
    tokenizer: "PreTrainedTokenizerBase",
    material: Sequence[Any],
    max_tokens: int,
    device: "torch.device",
) -> Measurement:
    """What `metric.measure` finds; see `Measure`. Raises ConfigError for a metric of another package that fails, or
    finds what is no measurement of it."""
    with METRICS.using(metric.name):
        found: Any = metric.measure(model, tokenizer, material, max_tokens, device)
        if not isinstance(found, metric.measurement):
            raise TypeError(f"it found a {type(found).__name__}, not a {metric.measurement.__name__}")
        require_type(found.metrics(), dict[str, float], "its `metrics()`")
        require_type(found.cells(), dict[str, str], "its `cells()`")
        require_type(found.caution(), str, "its `caution()`")
        if metric.name not in found.metrics():
            raise ValueError(f"its `metrics()` are {listed(found.metrics())}, without {metric.name!r}")
        return found


def metric_of(figures: dict[str, Any]) -> Metric | None:
    """The metric whose figures these are: a line of metrics.jsonl, or an evaluation of run.json. None for another."""
    fitting = [metric for metric in METRICS.values() if metric.name in figures]
    # A package may name its metric as one of our figures.
    return min(fitting, key=lambda metric: not METRICS.own(metric.name), default=None)


def read_measurement(record: dict[str, float]) -> Measurement:
    """An evaluation of a run's record. Raises RunError if no known metric can have made it."""
    metric = metric_of(record)
    if metric is None:
        raise RunError(
            f"run.json has an evaluation by none of the known metrics ({', '.join(METRICS)}), but {sorted(record)}; "
            "install the package that brings its metric, or train the run again"
        )
    try:
        return metric.measurement(**record)
    except TypeError as error:
        raise RunError(f"run.json is damaged: its evaluation is {sorted(record)}; train the run again") from error

"""Finished or unfinished runs as a comparison reads them, in groups that differ in nothing but their seed.

Reads what training left behind (run.json, metrics.jsonl), loads no model, and costs milliseconds per run.
"""

import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.errors import RunError
from schemas.shown import quoted
from schemas.strict import canonical_json
from trainer.evaluation.metric import METRICS, Metric, metric_of
from trainer.runs.metrics import FILE, WAY_OUT, read_metrics
from trainer.runs.record import HELD_OUT, RECORD, RunRecord, complete_identity, read_run

_SEED = re.compile(r"[-_.](seed|s)?[-_.]?\d+$")


@dataclass(frozen=True)
class Run:
    """One run folder, as far as a comparison reads it."""

    folder: Path
    identity: dict[str, Any]  # the resolved config, the cache's fingerprint, what is held out: what decides the figures
    finished: bool
    metric: Metric
    values: dict[int, float]  # by step, ascending
    beside: float | None  # the last

    @property
    def name(self) -> str:
        """The folder's name without a suffix for the seed: `sra-seed1`, `sra_s1` and `sra-1` are runs of `sra`."""
        return _SEED.sub("", self.folder.name) or self.folder.name

    @property
    def fingerprint(self) -> str:
        """Of the cache that it learned from, as hex."""
        return str(self.identity["fingerprint"])

    @property
    def held_out(self) -> str:
        """What it was measured on: the hash of its texts or pairs; of a run of an earlier version, their file."""
        return str(self.identity["held_out"])


@dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but their seed."""

    name: str
    runs: tuple[Run, ...]

    @property
    def steps(self) -> list[int]:
        """The steps at which every run was evaluated."""
        return sorted(set.intersection(*(set(run.values) for run in self.runs)))

    @property
    def metric(self) -> Metric:
        """The metric that all runs were measured by."""
        return self.runs[0].metric

    @property
    def curve(self) -> tuple[list[int], list[float], list[float]]:
        """Steps, mean and sample standard deviation of the metric (0 for a single run)."""
        columns = [[run.values[step] for run in self.runs] for step in self.steps]
        return self.steps, [statistics.fmean(column) for column in columns], [_spread(column) for column in columns]

    @property
    def last(self) -> list[float]:
        """The metric of each run at the group's last common evaluation."""
        return [run.values[self.steps[-1]] for run in self.runs]

    @property
    def spread(self) -> float:
        """Its sample standard deviation, 0 for a single run."""
        return _spread(self.last)


class NotMeasured(RunError):
    """A run that is whole, and of which nothing was measured that is known here."""


def load_run(folder: Path) -> Run:
    """Raises RunError: not a run's folder, an unknown format, damaged; NotMeasured, as of one that has just begun."""
    if not (folder / RECORD).exists() and any(folder.glob(f"*/{RECORD}")):
        raise RunError(f"{folder} is not the folder of a training run, but runs lie in it: name {folder}/*")
    record = read_run(folder)
    lines = read_metrics(folder, record.steps)
    metric = next(filter(None, map(metric_of, lines)), None)
    if metric is None:
        raise NotMeasured(_not_measured(folder, record.identity))
    evaluations = [line for line in lines if metric.name in line]
    try:
        return Run(
            folder=folder,
            identity=complete_identity(record.identity)
            | {"fingerprint": record.fingerprint, "held_out": _held_out(record)},
            finished=record.finished,
            metric=metric,
            values={int(line["step"]): float(line[metric.name]) for line in evaluations},
            beside=float(evaluations[-1][metric.beside[0]]) if metric.beside else None,
        )
    except KeyError as error:
        raise RunError(f"{folder / FILE} is damaged: its last evaluation has no {error}; {WAY_OUT}") from error


def _held_out(record: RunRecord) -> str:
    recorded = (record.inputs or {}).get(HELD_OUT)
    asked = record.identity.get("evaluation")
    named = [asked.get(name) for name in ("texts", "pairs", "field", "limit")] if isinstance(asked, dict) else []
    return recorded or " ".join(str(value) for value in named if value is not None)


def _not_measured(folder: Path, identity: dict[str, Any]) -> str:
    asked = identity.get("evaluation")
    name = asked.get("metric") if isinstance(asked, dict) else None
    if isinstance(name, str) and name not in METRICS:
        known = ", ".join(METRICS)
        return f"{folder} is measured by {quoted(name)}, which no installed package brings; known metrics: {known}"
    return f"{folder} was never evaluated: give its config an `evaluation`, or wait for the first one"


def group_runs(runs: Sequence[Run]) -> list[Group]:
    """Runs whose identities differ in nothing but the seed, best mean first.

    Raises RunError: no runs, one given as two, runs measured in different ways, or runs of a group that were never
    evaluated at the same step.
    """
    if not runs:
        raise RunError("no runs to compare: name their folders")
    other = next((run for run in runs if run.metric != runs[0].metric), None)
    if other is not None:
        raise RunError(
            f"{runs[0].folder} was measured by {runs[0].metric.name}, {other.folder} by {other.metric.name}: "
            "compare runs of one metric, each kind by themselves"
        )
    by_identity: dict[str, list[Run]] = {}
    for run in {run.folder.resolve(): run for run in runs}.values():
        key = canonical_json({name: value for name, value in run.identity.items() if name != "seed"})
        by_identity.setdefault(key, []).append(run)
    names = _names([members[0] for members in by_identity.values()])
    groups = [Group(name, tuple(members)) for name, members in zip(names, by_identity.values(), strict=True)]
    for group in groups:
        _check_group(group)
    return sorted(groups, key=lambda group: (group.metric.rank(statistics.fmean(group.last)), group.name))


def _names(firsts: Sequence[Run]) -> list[str]:
    """What tells the first runs of groups apart: their names; of runs of one name in several folders the folder above,
    too; and where that is the same, the seeds."""
    folders = [run.folder.resolve() for run in firsts]
    alone = [run.name for run in firsts]
    below = [f"{folder.parent.name}/{name}" for folder, name in zip(folders, alone, strict=True)]
    seeded = [folder.name for folder in folders]
    whole = [str(folder) for folder in folders]
    ways = [alone, below, seeded, whole]
    return [next(way[place] for way in ways if way.count(way[place]) == 1) for place in range(len(firsts))]


def _check_group(group: Group) -> None:
    seeds: dict[Any, Path] = {}
    for run in group.runs:
        seed = run.identity.get("seed")
        if seed in seeds:  # counted twice, it would make the spread look smaller than it is
            raise RunError(f"{seeds[seed]} and {run.folder} are the same run, seed {seed} included; name one of them")
        seeds[seed] = run.folder
    if not group.steps:
        raise RunError(f"the runs of {group.name} were never evaluated at the same step")


def _spread(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0

"""From a sweep's file to the configs of all its runs, every one of them judged before anything runs."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jobs.presets import PRESETS
from jobs.sweep.naming import folder_name, name_value, short_fields
from schemas.configs.overrides import Override, read_override
from schemas.configs.sweep import SweepConfig, VariantConfig
from schemas.configs.training import TrainingConfig
from schemas.configs.yaml import Source, build_config, read_source
from schemas.errors import ConfigError
from schemas.storage.fingerprint import fingerprint

MOST_RUNS = 10_000
MOST_TOLD = 5  # runs whose problems are shown
PLACES = {  # not what a run is
    "output", "checkpoint_every", "keep_checkpoints", "log_every", "loader_workers", "keep_tokens", "tokens_folder",
}  # fmt: skip


@dataclass(frozen=True)
class Run:
    """One training of a sweep. Runs of one `variant` differ in nothing but their seed."""

    name: str
    variant: str
    differs: Mapping[str, str]  # by short field, as names have it
    config: TrainingConfig

    @property
    def key(self) -> str:
        """Hash of what is trained: equal for runs that are the same, whatever they are called."""
        return fingerprint(self.config.model_dump(mode="json", exclude=PLACES))


@dataclass(frozen=True)
class Sweep:
    """The whole of it."""

    config: SweepConfig
    runs: tuple[Run, ...]


@dataclass(frozen=True)
class _Point:
    """One combination of values."""

    parts: tuple[str, ...]  # of its name
    differs: Mapping[str, str]
    values: Mapping[str, Any]  # by dotted field


def plan_sweep(path: Path, overrides: Sequence[str] = ()) -> Sweep:
    """The runs of the sweep in `path`, `overrides` laid over its own settings.

    Raises ConfigError: the file, more than MOST_RUNS runs, the config of any run with run and field named, two runs
    that are the same, or that would be called the same.
    """
    source = read_source(path)
    config = build_config(source, SweepConfig, [read_override(override) for override in overrides])
    seeds: Sequence[int | None] = config.seeds or [None]
    count = len(config.runs or "1") * math.prod(map(len, config.grid.values())) * len(seeds)
    if count > MOST_RUNS:
        raise ConfigError(f"{path}: {count:,} runs, and a sweep has up to {MOST_RUNS:,}; give it fewer values")
    base = read_source(config.base) if isinstance(config.base, Path) else _in_place(source, config.base)
    runs, problems = list[Run](), dict[str, list[str]]()
    for point, seed in itertools.product(_points(config), seeds):
        name = folder_name(point.parts, _seed_of(base) if seed is None else seed)
        try:
            runs.append(_make_run(config, base, point, seed, name))
        except ConfigError as error:
            for line in str(error).splitlines():
                problems.setdefault(line, []).append(name)
    if problems:
        raise ConfigError(_describe(problems, count))
    _require_distinct(path, runs)
    return Sweep(config, tuple(runs))


def _in_place(source: Source, base: dict[str, Any]) -> Source:
    """The base as it stands in the sweep's file, with what the command line has laid over it."""
    is_there = isinstance(source.data.get("base"), dict)
    return replace(source.section("base"), data=base) if is_there else Source(source.path, None, base)


def _describe(problems: Mapping[str, list[str]], runs: int) -> str:
    """Each problem once, with the runs that have it, unless all do."""
    said = [line if len(names) == runs or names[0] in line else _of(line, names) for line, names in problems.items()]
    rest = f"\nand {len(said) - MOST_TOLD:,} more" if len(said) > MOST_TOLD else ""
    return "\n".join(said[:MOST_TOLD]) + rest


def _of(line: str, names: list[str]) -> str:
    return f"run {names[0]}{f' and {len(names) - 1:,} more' if len(names) > 1 else ''}: {line}"


def _seed_of(base: Source) -> int:
    found = base.data.get("seed", 0)
    return found if isinstance(found, int) else 0  # what is wrong with it is told when the config is judged


def _points(config: SweepConfig) -> Iterator[_Point]:
    """Every variant at every point of the grid."""
    short = short_fields({*config.grid, *(field for variant in config.runs or [] for field in variant.set)})
    axes = [[_point(field, short[field], *named) for named in _named(field, of)] for field, of in config.grid.items()]
    variants = [[_variant(variant, short) for variant in config.runs]] if config.runs else []
    for points in itertools.product(*variants, *axes):
        yield _Point(
            tuple(part for point in points for part in point.parts),
            {field: value for point in points for field, value in point.differs.items()},
            {field: value for point in points for field, value in point.values.items()},
        )


def _named(field: str, values: Any) -> list[tuple[str, str, Any]]:
    """Each value as (part of a run's name, name of the value, value)."""
    if isinstance(values, dict):
        return [(name, name, value) for name, value in values.items()]
    return [("", name_value(field, value), value) for value in values]


def _point(field: str, short: str, part: str, name: str, value: Any) -> _Point:
    return _Point((part or f"{short}={name}",), {short: name}, {field: value})


def _variant(variant: VariantConfig, short: Mapping[str, str]) -> _Point:
    if variant.name is not None:
        return _Point((variant.name,), {"name": variant.name}, variant.set)
    named = {short[field]: name_value(field, value) for field, value in variant.set.items()}
    return _Point(tuple(f"{field}={value}" for field, value in named.items()), named, variant.set)


def _make_run(config: SweepConfig, base: Source, point: _Point, seed: int | None, name: str) -> Run:
    given = {**point.values, "output": str(config.output / "runs" / name), **({} if seed is None else {"seed": seed})}
    laid = [Override(f"run {name}", tuple(field.split(".")), value) for field, value in given.items()]
    return Run(name, name.rpartition("-")[0], point.differs, build_config(base, TrainingConfig, laid, PRESETS))


def _require_distinct(path: Path, runs: list[Run]) -> None:
    names, keys = dict[str, Run](), dict[str, Run]()
    for run in runs:
        if (same := keys.setdefault(run.key, run)) is not run:
            raise ConfigError(f"{path}: {same.name} and {run.name} are the same run, of equal configs; take one out")
        if names.setdefault(run.name, run) is not run:
            raise ConfigError(f"{path}: two different runs would be called {run.name}; name their values or the runs")

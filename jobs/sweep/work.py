"""Training a group of a sweep's runs in this process, and what came of each."""

import sys
import traceback
from collections.abc import Hashable, Iterator, Sequence
from contextlib import chdir, nullcontext, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.sweep.plan import Run
from schemas.cache.readable import ReadableCache
from schemas.cache.union import open_readable
from schemas.configs.training import TrainingConfig
from schemas.errors import RunError, StillroomError
from schemas.failures import describe_failure
from schemas.storage.regular import open_to_append
from trainer.optimisation.memory import keep_freed_memory
from trainer.runs.together import reads_as, train_together
from trainer.runs.train import open_run, train

Group = tuple[Run, ...]  # trained in one process; several share a read


@dataclass(frozen=True)
class Problem:
    """Why a run is not finished."""

    words: str
    harmless: bool = False  # whether the process in which it came up is as good for other runs as before


Problems = list[Problem | None]  # of each run of a group; None if it is finished


@dataclass(frozen=True)
class Outcome:
    """What came of a run: finished, or why not."""

    run: Run
    problem: Problem | None


def train_in_sequence(groups: Sequence[Group], logit_bytes: int) -> Iterator[Outcome]:
    """One group after the other, in this process; runs of one cache open it once."""
    cache: ReadableCache | None = None
    opened: tuple[Path, ...] = ()
    for group in groups:
        if opened != group[0].config.caches:
            cache, opened = None, group[0].config.caches  # the earlier one is gone before the next is opened
            cache = None if group[0].config.weights else open_readable(opened)
        problems = train_group([run.config for run in group], logit_bytes, cache)
        yield from map(Outcome, group, problems)


def train_group(configs: Sequence[TrainingConfig], logit_bytes: int, cache: ReadableCache | None = None) -> Problems:
    """Train the students of `configs`; several hold up to `logit_bytes` of their teacher's logits. What ends one
    does not end the others."""
    keep_freed_memory()
    if len(configs) > 1:
        results = train_together(configs, cache, logit_bytes)
        return [_told(result) if isinstance(result, Exception) else None for result in results]
    try:
        train(configs[0], cache)
    except Exception as error:  # noqa: BLE001 - told whole, and the other runs go on
        return [_told(error)]
    return [None]


def train_logged(configs: Sequence[dict[str, Any]], logit_bytes: int, log: Path) -> Problems:
    """The same in a process that nobody looks at: what it prints is added to `log`."""
    with (
        open_to_append(log) as file,
        redirect_stdout(file),
        redirect_stderr(file),
    ):
        return train_group([TrainingConfig.model_validate(config) for config in configs], logit_bytes)


def train_far_away(folder: Path, configs: Sequence[dict[str, Any]], logit_bytes: int, log: Path) -> Problems:
    """The same on a machine that sees the sweep's disks, from the sweep's working `folder` if there is one."""
    with chdir(folder) if folder.is_dir() else nullcontext():
        return train_logged(configs, logit_bytes, log)


def as_sent(run: Run) -> dict[str, Any]:
    """The config of a run on its way to another process: settings that it leaves out stay so."""
    return run.config.model_dump(mode="json", exclude_unset=True)


def _told(error: Exception) -> Problem:
    if isinstance(error, StillroomError):
        return Problem(str(error), error.harmless)
    if (told := describe_failure(error)) is not None:
        return Problem(told)
    traceback.print_exception(error, file=sys.stderr)
    return Problem(f"an error of the program, {type(error).__name__}: {error}")


def make_groups(runs: Sequence[Run], share: int) -> list[Group]:
    """The runs in their order, up to `share` in a group of those that read the same batches."""
    alike, places = dict[Hashable, list[Run]](), {run.name: place for place, run in enumerate(runs)}
    for run in runs:
        alike.setdefault(reads_as(run.config) if share > 1 else run.name, []).append(run)
    groups = [members[start : start + share] for members in alike.values() for start in range(0, len(members), share)]
    return [tuple(group) for group in sorted(groups, key=lambda group: places[group[0].name])]


def require_trainable(runs: Sequence[Run]) -> set[str]:
    """The names of those that are finished. Loads no model but those.

    Raises what `train` would for any run's caches and folder, with the run named; RunError if a folder holds another.
    """
    caches, finished = dict[tuple[Path, ...], ReadableCache](), set[str]()
    for run in runs:
        paths = run.config.caches
        try:
            if paths not in caches and not run.config.weights:
                caches[paths] = open_readable(paths)
            if open_run(run.config, caches.get(paths)).finished() is not None:
                finished.add(run.name)
        except StillroomError as error:
            raise RunError(f"run {run.name}: {error}") from error
    return finished

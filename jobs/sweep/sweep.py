"""`stillroom sweep`: every run of a sweep that is not finished yet, and then one table of all.

Killed at any time, the same command leaves finished runs alone and goes on with the others from their checkpoints.
"""

import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.sweep.plan import Run, plan_sweep
from jobs.sweep.record import LOGS, RUNS, opened
from schemas.configs.sweep import SweepConfig
from schemas.console import make_console, say
from schemas.errors import RunError
from schemas.progress import Progress
from schemas.shown import counted

if TYPE_CHECKING:
    from jobs.sweep.work import Group, Outcome


def run_sweep(path: Path, overrides: Sequence[str]) -> None:
    """Train what is not finished, print the table, and say where it is.

    Raises ConfigError before anything runs: any run's config. RunError: a folder is of something else, or, once the
    table is there, a run failed.
    """
    sweep = plan_sweep(path, overrides)
    # Later than a config's mistakes are told: to import torch takes seconds.
    from jobs.report.sweep import read_entry, sweep_table, write_tables
    from jobs.sweep.work import require_trainable

    output = sweep.config.output
    with opened(output, sweep.runs) as runs:
        finished = require_trainable(runs)
        problems = _train(sweep.config, runs, finished)
        entries = [
            read_entry(
                output / RUNS / run.name,
                run.variant,
                run.config.seed,
                run.differs,
                run.name in finished,
                problems.get(run.name),
            )
            for run in runs
        ]
        written = write_tables(output, entries)
    make_console().print(sweep_table(entries))
    say(f"{len(finished):,} of {len(runs):,} runs are finished; {', '.join(map(str, written))}")
    if problems:
        raise RunError(
            f"{counted(len(problems), 'run')} failed: {', '.join(problems)}. The table has their messages; the same "
            "command tries them again"
        )


def _train(config: SweepConfig, runs: Sequence[Run], finished: set[str]) -> Mapping[str, str]:
    """Train all runs but the `finished`, to which those that end well are added; returns the others' problems."""
    problems = dict[str, str]()
    left = [run for run in runs if run.name not in finished]
    if not left:
        return problems
    from jobs.sweep.work import make_groups

    groups = make_groups(left, config.share)
    before, started = len(finished), time.monotonic()
    with (
        Progress("sweep", "runs", len(runs), done=before) as progress,
        closing(_outcomes(config, groups)) as outcomes,
    ):
        for outcome in outcomes:
            if outcome is not None:
                _note(outcome, finished, problems, progress)
            done = len(finished) + len(problems)
            progress.update(done, _state(done - before, len(problems), time.monotonic() - started))
            if problems and config.stop_at_failure:
                break
    return problems


def _outcomes(config: SweepConfig, groups: "Sequence[Group]") -> "Generator[Outcome | None]":
    """What comes of each run, as it comes; None now and then."""
    from jobs.sweep.work import train_in_sequence

    workers, logs = config.workers, config.output.absolute() / LOGS
    logit_bytes = int(config.share_gb * 10**9)
    if workers.kind == "sequence":
        yield None
        yield from train_in_sequence(groups, logit_bytes)
        return
    logs.mkdir(exist_ok=True)
    if workers.kind == "ray":
        from jobs.sweep.on_ray import train_on_ray

        yield from train_on_ray(groups, logit_bytes, workers, logs)
        return
    from jobs.sweep.processes import train_in_processes

    yield from train_in_processes(groups, logit_bytes, workers.count, logs)


def _note(outcome: "Outcome", finished: set[str], problems: dict[str, str], progress: Progress) -> None:
    if outcome.problem is None:
        finished.add(outcome.run.name)
    else:
        problems[outcome.run.name] = outcome.problem.words
        progress.say(f"run {outcome.run.name} failed: {outcome.problem.words}")


def _state(done: int, failed: int, seconds: float) -> str:
    rate = f"{done / seconds * 3600:,.1f} runs/h" if done else ""
    return " · ".join(filter(None, [rate, f"{failed} failed" if failed else ""]))

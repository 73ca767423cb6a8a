"""A sweep's runs as Ray tasks, on a cluster whose machines see the sweep's folder, its caches and its texts."""

import os
from collections.abc import Generator, Sequence
from functools import partial
from pathlib import Path

from jobs.sweep.work import Group, Outcome, Problem, as_sent, train_far_away
from pipeline.cluster.connection import JOB, joined, terminable
from pipeline.cluster.placement import require_room
from pipeline.cluster.tasks import run_tasks
from schemas.configs.sweep import SweepWorkersConfig
from schemas.errors import ConfigError


def train_on_ray(
    groups: Sequence[Group], logit_bytes: int, workers: SweepWorkersConfig, logs: Path
) -> Generator[Outcome | None]:
    """`workers.count` groups at a time, each a task; None now and then while nothing ends.

    Closed early, it ends what still runs. Raises ResourceError: Ray, or its processors and GPUs. ConfigError: a
    relative path within a job, whose folder Ray deletes.
    """
    output = groups[0][0].config.output
    if JOB in os.environ and not output.is_absolute():
        raise ConfigError(
            f"output: {output} is relative, and a job's working directory is a copy that Ray deletes; give an absolute "
            "path on storage that all machines share"
        )
    folder = Path.cwd()
    calls = [(folder, [as_sent(run) for run in group], logit_bytes, logs / f"{group[0].name}.log") for group in groups]
    size = workers.cpus, workers.gpus
    with terminable(), joined(workers.address, partial(require_room, *size)) as connection:
        for ended in run_tasks(connection, train_far_away, calls, workers.count, *size):
            if ended is None:
                yield None
                continue
            group, again = groups[ended.number], "the same command goes on"
            problems = ended.value or [Problem(f"{ended.problem}; {again}")] * len(group)
            yield from map(Outcome, group, problems)

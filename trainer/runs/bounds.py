"""Settings that a config may have and that this cache or this machine makes senseless: told, not waited for."""

import os

from schemas.configs.training import TrainingConfig
from schemas.errors import RunError

MOST_PASSES = 10  # of one step over the whole cache
FEW_SAMPLES = 1_024  # that a step may always take, however often the cache repeats in it
WORKERS_PER_CORE = 8
FEW_WORKERS = 16  # that may always be asked for


def require_sensible(config: TrainingConfig, samples: int) -> None:
    """Raises RunError for steps that go over all `samples` of the cache again and again, and for threads that this
    machine has no cores for: either would be silent for minutes, or for ever."""
    per_step = config.batch_size * config.accumulation
    if per_step > max(FEW_SAMPLES, MOST_PASSES * samples):
        raise RunError(
            f"one step would take {per_step:,} samples (batch_size {config.batch_size:,} x accumulation "
            f"{config.accumulation:,}), and the cache holds {samples:,}; make batch_size or accumulation smaller"
        )
    cores = len(os.sched_getaffinity(0))
    if config.loader_workers > max(FEW_WORKERS, WORKERS_PER_CORE * cores):
        raise RunError(
            f"loader_workers: {config.loader_workers} threads would share {cores} cores; up to {cores} are of use"
        )

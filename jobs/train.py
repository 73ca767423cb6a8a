"""`stillroom train`: one student run. As a job: `ray job submit --working-dir . -- stillroom train CONFIG.yaml`."""

from collections.abc import Sequence
from pathlib import Path

from jobs.presets import PRESETS
from schemas.configs.training import TrainingConfig
from schemas.configs.yaml import load_config
from schemas.console import say


def run_training(path: Path, overrides: Sequence[str]) -> None:
    """Train, then say where the student is and what it came to."""
    config = load_config(path, TrainingConfig, overrides, PRESETS)
    # Later than a config's mistakes are told: to import torch takes seconds.
    from trainer.optimisation.memory import keep_freed_memory
    from trainer.runs.train import train

    keep_freed_memory()
    result = train(config)
    if result.already_done:
        say(f"{result.folder} is finished already ({result.steps} steps); nothing to do")
    else:
        say(f"{result.folder}: {result.steps} steps in {result.seconds:.0f} s")
    found = result.evaluation
    if found is not None:
        say(f"held out: {found}")
    say(f"student: {result.folder / 'model'}")

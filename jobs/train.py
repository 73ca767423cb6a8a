"""`stillroom train`: one student run. As a job: `ray job submit --working-dir . -- stillroom train CONFIG.yaml`."""

from collections.abc import Sequence
from pathlib import Path

from jobs.presets import PRESETS
from schemas.configs.training import TrainingConfig
from schemas.configs.yaml import load_config
from schemas.console import make_console
from trainer.optimisation.memory import keep_freed_memory
from trainer.runs.train import train


def run_training(path: Path, overrides: Sequence[str]) -> None:
    """Train, then say where the student is and what it came to."""
    config = load_config(path, TrainingConfig, overrides, PRESETS)
    keep_freed_memory()
    result = train(config)
    console = make_console()
    if result.already_done:
        console.print(f"{result.folder} is finished already ({result.steps} steps); nothing to do", soft_wrap=True)
    else:
        console.print(f"{result.folder}: {result.steps} steps in {result.seconds:.0f} s", soft_wrap=True)
    found = result.evaluation
    if found is not None:
        console.print(f"held out: {found}")
    console.print(f"student: {result.folder / 'model'}", soft_wrap=True)

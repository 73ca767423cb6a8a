"""`stillroom train`: one student run. As a job: `ray job submit --working-dir . -- stillroom train CONFIG.yaml`.

On several devices: `devices: N`, or, on several machines too, `torchrun --nproc-per-node N -m jobs.cli train
CONFIG.yaml`.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.presets import PRESETS
from schemas.configs.training import TrainingConfig
from schemas.configs.yaml import load_config
from schemas.console import say

if TYPE_CHECKING:
    from trainer.runs.train import RunResult


def run_training(path: Path, overrides: Sequence[str]) -> None:
    """Train, then say where the student is and what it came to."""
    config = load_config(path, TrainingConfig, overrides, PRESETS)
    # Later than a config's mistakes are told: to import torch takes seconds.
    from trainer.optimisation.memory import keep_freed_memory
    from trainer.runs.group import OtherRankFailed, speaks
    from trainer.runs.train import train

    keep_freed_memory()
    if not speaks():
        logging.disable(logging.WARNING)
    try:
        result = train(config)
    except OtherRankFailed:
        raise SystemExit(2) from None  # it says why
    except KeyboardInterrupt:
        if speaks():
            raise
        raise SystemExit(130) from None
    if speaks():
        _show(result)


def _show(result: "RunResult") -> None:
    if result.already_done:
        say(f"{result.folder} is finished already ({result.steps} steps); nothing to do")
    else:
        say(f"{result.folder}: {result.steps} steps in {result.seconds:.0f} s")
    found = result.evaluation
    if found is not None:
        say(f"held out: {found}")
    say(f"student: {result.folder / 'model'}")

"""Training runs that are interrupted, as a crash would."""

import pytest

from schemas.configs.training import TrainingConfig
from trainer.optimisation.loop import Loop, StepReport
from trainer.runs.train import train


def interrupt(run: TrainingConfig, step: int) -> None:
    """Train until step number `step`, counted from 0, and be interrupted before it."""
    original = Loop.step

    def crash(self: Loop, number: int) -> StepReport:
        if number == step:
            raise KeyboardInterrupt
        return original(self, number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Loop, "step", crash)
        with pytest.raises(KeyboardInterrupt):
            train(run)

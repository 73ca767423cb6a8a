"""Work for `start_ranks`: several runs on the same two processes, and one that fails."""

from typing import Any

from schemas.configs.training import TrainingConfig
from schemas.errors import RunError
from trainer.runs.group import joined

OPTIMIZER = {"lr": 1e-3, "eps": 1e-4}  # at an eps far below the gradients, AdamW makes rounding as large as a step
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "idle": {"batch_size": 1, "accumulation": 3},
    "sharp": {"optimizer": OPTIMIZER | {"sharpness": {}}},
    "grown": {},
    "divided": {"sharding": "full", "optimizer": OPTIMIZER | {"clip": 0.1}},
    "divided_grown": {"sharding": "full", "optimizer": OPTIMIZER | {"sharpness": {}}},
}


def train_variants(config: TrainingConfig) -> None:
    """Each of VARIANTS, into a folder of its name beside `config.output`."""
    from trainer.runs.train import train

    for name, changes in VARIANTS.items():
        output = config.output / name
        train(TrainingConfig.model_validate(config.model_dump() | changes | {"output": output}))


def fail(config: TrainingConfig) -> None:
    """The second rank fails while the first waits for it."""
    with joined(config) as ranks:
        ranks.gather("both are here")
        if ranks.rank == 1:
            raise RunError("sample s3 has no text")
        ranks.gather("the other one is gone")

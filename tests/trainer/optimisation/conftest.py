"""One pair of processes for all tests of what ranks exchange."""

from typing import Any

import pytest

from schemas.configs.training import TrainingConfig
from tests.trainer.optimisation.exchange import exchange
from trainer.runs.start_ranks import start_ranks


@pytest.fixture(scope="session")
def exchanged() -> dict[str, Any]:
    base = {"cache": "c", "output": "o", "student": {"model": "m"}, "steps": 1, "device": "cpu", "devices": 2}
    found: dict[str, Any] = start_ranks(TrainingConfig.model_validate(base), exchange)
    return found

"""Runs that an earlier version began are refused where two things mean something else now, and nowhere else."""

from pathlib import Path
from typing import Any

import pytest

from schemas.configs.training import TrainingConfig
from schemas.errors import RunError
from tests.tiny import tiny_tokenizer
from trainer.runs.checkpoint import CheckpointRecord, Start
from trainer.runs.earlier import WAY_OUT, require_same_meaning

BATCH = {"loss": "mta", "normalise": "batch"}
CHECKPOINT = Path("run/checkpoints/step-00000003")


def start(version: Any, checkpoint: Path | None = CHECKPOINT) -> Start:
    return Start(checkpoint, CheckpointRecord(version=version, step=3, fingerprint="f", run="r"))


def config(*objective: dict[str, Any], tokenizer: str = "teacher") -> TrainingConfig:
    student = {"architecture": {"model_type": "llama"}, "tokenizer": tokenizer}
    base = {"cache": "c", "output": "o", "steps": 9, "student": student, "objective": list(objective)}
    return TrainingConfig.model_validate(base)


def test_only_l_hid_over_the_batch_means_something_else() -> None:
    for objective in ({"loss": "ce"}, {"loss": "mta"}, BATCH | {"hid": 0}):
        require_same_meaning(config(objective), start(1))
    with pytest.raises(RunError) as refused:
        require_same_meaning(config({"loss": "ce"}, BATCH), start(1))
    assert str(refused.value) == (
        f"{CHECKPOINT} is of a version in which mta.normalise: batch averaged L_Hid over the batch, too; it averages "
        f"L_DSA alone now: {WAY_OUT}"
    )


def test_new_runs_and_those_of_this_version_go_on() -> None:
    require_same_meaning(config(BATCH), start(1, checkpoint=None))
    require_same_meaning(config(BATCH), start(2))


def test_a_tokenizer_whose_file_is_followed_is_read_as_before(tmp_path: Path) -> None:
    tiny_tokenizer(tmp_path)
    require_same_meaning(config({"loss": "ce"}, tokenizer=str(tmp_path)), start(1))

"""Runs that an earlier version began, and that would go on to another student: two things mean something else now."""

from schemas.configs.losses.mta import MTAConfig
from schemas.configs.training import TrainingConfig
from schemas.errors import RunError
from schemas.models.tokenizer import read_tokenizer
from trainer.runs.checkpoint import Start
from trainer.student.load import find_tokenizer

WAY_OUT = "finish it with the version that began it, or give this run another output"


def require_same_meaning(config: TrainingConfig, start: Start) -> None:
    """Raises RunError if `start` is a checkpoint of version 1 whose losses or tokens would be others from now on."""
    if start.checkpoint is None or start.record.version > 1:
        return
    if any(isinstance(loss, MTAConfig) and loss.normalise == "batch" and loss.hid > 0 for loss in config.objective):
        raise RunError(
            f"{start.checkpoint} is of a version in which mta.normalise: batch averaged L_Hid over the batch, too; it "
            f"averages L_DSA alone now: {WAY_OUT}"
        )
    folder = find_tokenizer(config.student)
    if folder is not None and read_tokenizer(folder, config.student.trust_remote_code).set_aside is not None:
        raise RunError(
            f"{start.checkpoint} is of a version that read {folder} by AutoTokenizer's rules, against its "
            f"tokenizer.json: {WAY_OUT}"
        )
